//! Which clauses are to be run.

use runtime_api::{Error, ErrorKind, Result};

use crate::{Clause, clauses};

/// The clauses whose id begins with one of the filters, in the order of the list; all of them without filters. So a
/// filter is an id, an area or the beginning of an id.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a filter that selects nothing.
pub fn select(filters: &[String]) -> Result<Vec<&'static Clause>> {
    for filter in filters {
        let hits_something = clauses::ALL.iter().any(|clause| clause.id.starts_with(filter.as_str()));
        if filter.is_empty() || !hits_something {
            return Err(Error::new(ErrorKind::InvalidArgument(format!(
                "filter {filter:?} selects no clause; `list` shows them all"
            ))));
        }
    }
    let wanted = |clause: &Clause| filters.iter().any(|filter| clause.id.starts_with(filter.as_str()));
    Ok(clauses::ALL.iter().copied().filter(|clause| filters.is_empty() || wanted(clause)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(filters: &[&str]) -> Vec<&'static str> {
        let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
        select(&filters).unwrap().iter().map(|clause| clause.id).collect()
    }

    #[test]
    fn a_filter_is_an_id_an_area_or_a_beginning() {
        assert_eq!(ids(&[]).len(), clauses::ALL.len());
        assert_eq!(ids(&["start.runs-the-program"]), ["start.runs-the-program"]);
        assert_eq!(ids(&["start"]).len(), 3);
        assert!(ids(&["create.rejects-"]).len() >= 5);
        assert_eq!(ids(&["start", "start.runs-the-program"]).len(), 3);
    }

    #[test]
    fn a_filter_that_selects_nothing_is_a_mistake() {
        for filter in ["", "nothing", "start.runs-the-program-x"] {
            let error = select(&[filter.to_owned()]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{filter:?}");
        }
    }
}
