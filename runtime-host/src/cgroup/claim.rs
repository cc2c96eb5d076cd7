//! One create at a time in one cgroup, on the whole host.
//!
//! That a cgroup is unused is seen a moment before a container is in it, and in between another create, below another
//! state directory, may see the same. So who creates a container holds a name that only one process can have: that of an
//! abstract socket, which the kernel lets go of with the process and which leaves no file behind.

use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use runtime_api::{Error, ErrorKind, Rejection, Result};

/// How long somebody else's claim is waited for. A process that was forked while one was held has it too, for as long as
/// it takes to become another program.
const PATIENCE: Duration = Duration::from_millis(250);

/// The claim on a cgroup, held.
#[derive(Debug)]
pub struct Claim {
    /// Nothing where the kernel, or a stranger, does not let us have the name: a create is not refused for that.
    _name: Option<OwnedFd>,
}

impl Claim {
    /// Claims a cgroup for a container in the making.
    ///
    /// # Errors
    /// `Rejected` when somebody else is making a container in it.
    pub async fn take(cgroup: &str) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let refused = match hold(cgroup) {
                Ok(name) => return Ok(Self { _name: Some(name) }),
                Err(Errno::ADDRINUSE) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(2)).await;
                    continue;
                }
                Err(Errno::ADDRINUSE) => holder(cgroup),
                Err(error) => Err(error),
            };
            return match refused {
                Ok(pid) => Err(busy(cgroup, pid)),
                Err(error) => {
                    tracing::warn!(%cgroup, %error, "a cgroup cannot be claimed for a container");
                    Ok(Self { _name: None })
                }
            };
        }
    }
}

fn busy(cgroup: &str, pid: i32) -> Error {
    let message = format!("process {pid} is making a container in cgroup {cgroup}");
    Error::new(ErrorKind::Rejected { class: Rejection::CgroupBusy, message })
        .hint("name no cgroupsPath, so that each container gets a cgroup of its own")
}

fn hold(cgroup: &str) -> rustix::io::Result<OwnedFd> {
    let socket = socket()?;
    bind(&socket, &name(cgroup)?)?;
    // Nobody is ever answered: each create that is refused meanwhile takes a place in the queue.
    listen(&socket, 4096)?;
    Ok(socket)
}

/// Who holds a claim. Anybody on the host may take the name; those who could not make a container there count for nothing.
fn holder(cgroup: &str) -> rustix::io::Result<i32> {
    let socket = socket()?;
    connect(&socket, &name(cgroup)?)?;
    let holder = socket_peercred(&socket)?;
    if holder.uid.is_root() || holder.uid == rustix::process::geteuid() {
        Ok(holder.pid.as_raw_nonzero().get())
    } else {
        Err(Errno::PERM)
    }
}

/// It never blocks, whatever the holder does.
fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// A name is shorter than a cgroup's path may be. Paths that mean the same cgroup have the same one.
fn name(cgroup: &str) -> rustix::io::Result<SocketAddrUnix> {
    let mut plain = Sha256::new();
    for part in Path::new(cgroup).components() {
        if let Component::Normal(part) = part {
            plain.update(part.as_encoded_bytes());
            plain.update(b"/");
        }
    }
    let digest: String = plain.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    SocketAddrUnix::new_abstract_name(format!("manyrun-cgroup-{digest}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cgroup_is_claimed_once_and_is_free_again() {
        let path = format!("/claims-of-{}/a", std::process::id());
        let first = Claim::take(&path).await.unwrap();
        let error = Claim::take(&format!("/{path}/")).await.unwrap_err().to_string();
        assert!(error.contains(&format!("process {} is making", std::process::id())), "{error}");
        Claim::take(&format!("{path}b")).await.unwrap();
        drop(first);
        Claim::take(&path).await.unwrap();
    }

    #[tokio::test]
    async fn many_refusals_do_not_fill_it() {
        let path = format!("/claims-of-{}/b", std::process::id());
        let _held = Claim::take(&path).await.unwrap();
        for _ in 0..20 {
            assert_eq!(hold(&path).unwrap_err(), Errno::ADDRINUSE);
            assert_eq!(holder(&path).unwrap().unsigned_abs(), std::process::id());
        }
        assert!(Claim::take(&path).await.is_err());
    }
}
