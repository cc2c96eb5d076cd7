//! Reading a thousand handlers from a thousand drop-ins, as a node agent does at its start and at each reload.
//!
//! The files are on the disk, as configuration is, and in the page cache, since they were written a moment before.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime_api::Result as Done;
use runtime_handlers::{HandlerTable, load};

use crate::place::Part;
use crate::table::{Table, median, quantile, shown};
use crate::{Result, told};

const HANDLERS: usize = 1000;
const TARGET: Duration = Duration::from_millis(150);
const ROUNDS: usize = 20;

/// A dialect: what it is called, its main file, its drop-ins, and who reads them.
struct Dialect {
    name: &'static str,
    main: (&'static str, &'static str),
    folder: &'static str,
    drop_in: fn(usize) -> String,
    read: fn(&Path) -> Done<HandlerTable>,
}

const DIALECTS: [Dialect; 3] = [
    Dialect {
        name: "our own",
        main: ("handlers.toml", "default = 'h0500'\n"),
        folder: "handlers.toml.d",
        drop_in: |nth| {
            format!(
                "[runtimes.h{nth:04}]\nkind = 'oci'\npath = '/usr/bin/crun'\nroot = '/run/h{nth}'\n\
                 monitor = {{ env = ['A=1'] }}\nannotations = {{ allowed = ['devices.crio.io'] }}\n"
            )
        },
        read: load::file,
    },
    Dialect {
        name: "CRI-O",
        main: ("crio.conf", "[crio.runtime]\ndefault_runtime = 'h0500'\n"),
        folder: "crio.conf.d",
        drop_in: |nth| {
            format!(
                "[crio.runtime.runtimes.h{nth:04}]\nruntime_path = '/usr/bin/crun'\nruntime_root = '/run/h{nth}'\n\
                 monitor_env = ['A=1']\nallowed_annotations = ['devices.crio.io']\n"
            )
        },
        read: load::crio,
    },
    Dialect {
        name: "containerd",
        main: (
            "config.toml",
            "version = 3\nimports = ['conf.d/*.toml']\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n\
             default_runtime_name = 'h0500'\n",
        ),
        folder: "conf.d",
        drop_in: |nth| {
            let table = format!("plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.h{nth:04}");
            format!(
                "version = 3\n[{table}]\nruntime_type = 'io.containerd.runc.v2'\npod_annotations = ['devices.crio.io']\n\
                 [{table}.options]\nBinaryName = '/usr/bin/crun'\nRoot = '/run/h{nth}'\n"
            )
        },
        read: load::containerd,
    },
];

pub(crate) fn measure(place: &Part, table: &mut Table) -> Result<()> {
    for dialect in &DIALECTS {
        let main = dialect.write(&place.bundles.join(dialect.name))?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let read = (dialect.read)(&main).map_err(told)?;
            times.push(began.elapsed());
            dialect.check(&read)?;
        }
        let what = format!("reading 1,000 drop-ins of {}", dialect.name);
        let note = format!("90th of 100: {}", shown(quantile(&times, 0.9)));
        table.add(&what, median(&times), TARGET, note, false);
    }
    Ok(())
}

impl Dialect {
    /// Writes all files; gives the main one.
    fn write(&self, into: &Path) -> Result<PathBuf> {
        let folder = into.join(self.folder);
        std::fs::create_dir_all(&folder)?;
        let main = into.join(self.main.0);
        std::fs::write(&main, self.main.1)?;
        for nth in 0..HANDLERS {
            std::fs::write(folder.join(format!("{nth:04}.toml")), (self.drop_in)(nth))?;
        }
        Ok(main)
    }

    /// A fast reader that read nothing would be worth nothing.
    fn check(&self, table: &HandlerTable) -> Result<()> {
        let ours = table.handlers.values().filter(|config| config.name.as_str().starts_with('h'));
        let read = ours.filter(|config| config.root.is_some()).count();
        let default = table.select(None).map_err(told)?;
        let files = table.sources.len();
        let known = default.origin.to_string().contains("0500.toml:");
        if read == HANDLERS && files == HANDLERS + 1 && known && table.notes.is_empty() {
            return Ok(());
        }
        let (name, notes) = (self.name, &table.notes);
        Err(format!(
            "{name}: {read} handlers of {files} files, the default is of {}: {notes:?}",
            default.origin
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_read_whole() {
        for dialect in &DIALECTS {
            let place = tempfile::tempdir().unwrap();
            let main = dialect.write(place.path()).unwrap();
            let mut table = (dialect.read)(&main).unwrap();
            dialect.check(&table).unwrap();
            table.handlers.retain(|name, _| name.as_str() != "h0001");
            dialect.check(&table).unwrap_err();
        }
    }
}
