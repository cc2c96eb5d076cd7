//! Finding a container by what people type.

use runtime_api::{Container, ContainerStore, Error, ErrorKind, Result};

/// More candidates than this are not listed.
const LISTED: usize = 5;

/// The container with this id, else the one with this name, else the only one whose id begins so.
///
/// # Errors
/// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidArgument`] for an empty text, and where several fit, which are named.
pub fn find(store: &dyn ContainerStore, wanted: &str) -> Result<Container> {
    let failed = |kind| Error::new(kind).during_step("find").on(format_args!("container {wanted:?}"));
    if wanted.is_empty() {
        return Err(failed(ErrorKind::InvalidArgument("an id or a name is wanted".to_owned())));
    }
    let all = store.list()?;
    if let Some(exact) = all.iter().find(|container| container.id.as_str() == wanted) {
        return Ok(exact.clone());
    }
    let named: Vec<_> = all.iter().filter(|container| container.name == wanted).collect();
    let fit = if named.is_empty() {
        all.iter().filter(|container| container.id.as_str().starts_with(wanted)).collect()
    } else {
        named
    };
    match fit.as_slice() {
        [] => Err(failed(ErrorKind::NotFound)),
        [only] => Ok((*only).clone()),
        several => {
            let mut list: Vec<_> =
                several.iter().take(LISTED).map(|container| container.id.as_str()).collect();
            if several.len() > LISTED {
                list.push("...");
            }
            let what = format!("{} containers fit: {}", several.len(), list.join(", "));
            Err(failed(ErrorKind::InvalidArgument(what)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use crate::testing::id;
    use runtime_api::HandlerName;
    use std::time::SystemTime;

    fn store(containers: &[(&str, &str)]) -> MemoryStore {
        let store = MemoryStore::new();
        for (each, name) in containers {
            let handler = HandlerName::new("h").unwrap();
            let mut container = Container::new(id(each), "/b", handler, "0", SystemTime::UNIX_EPOCH);
            container.name = (*name).to_owned();
            store.add(container).unwrap();
        }
        store
    }

    #[test]
    fn what_is_exact_wins_over_what_only_begins_so() {
        let store = store(&[("abc", "one"), ("abcdef", "two"), ("two", "three"), ("xyz", "abcd")]);
        for (wanted, found) in [
            ("abc", "abc"),
            ("two", "two"),
            ("one", "abc"),
            ("abcd", "xyz"),
            ("abcde", "abcdef"),
            ("x", "xyz"),
        ] {
            assert_eq!(find(&store, wanted).unwrap().id, id(found), "{wanted}");
        }
    }

    #[test]
    fn nothing_and_several_are_errors() {
        let store = store(&[("abc", "n"), ("abd", "n"), ("x", "y")]);
        assert!(find(&store, "q").unwrap_err().is_not_found());
        assert!(find(&store, "%").unwrap_err().is_not_found());
        for (wanted, what) in
            [("", "is wanted"), ("ab", "2 containers fit: abc, abd"), ("n", "2 containers fit")]
        {
            let error = find(&store, wanted).unwrap_err();
            assert!(error.to_string().contains(what), "{wanted}: {error}");
        }
    }
}
