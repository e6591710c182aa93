//! The sockets: where others reach this node.
//!
//! They are bound after the journal is open and before anything is spawned, so that a node that
//! cannot be reached never begins. What stands in the way is named; only a socket at which nobody
//! answers is replaced.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::error::Error;

/// Everyone may connect: the kernel says who it is, and the rules decide what it may do. A narrower
/// mode would lock out accounts of other users, which the configuration lets in by name.
const SOCKET_MODE: u32 = 0o666;
/// Everyone may look into the socket's directory, or the socket could not be reached.
const DIRECTORY_MODE: u32 = 0o755;

/// The shared port.
pub(crate) async fn port(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Port { address, source })
}

/// The local socket's place in the file system. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(crate) struct LocalSocket {
    path: PathBuf,
    /// Device and inode: another node may have put its own socket there since.
    file: (u64, u64),
}

impl LocalSocket {
    /// Binds the local socket, and replaces one that a killed node left behind.
    pub(crate) async fn bind(path: &Path) -> Result<(UnixListener, Self), Error> {
        let cannot = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Socket { doing, path, source }
        };
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            let make = DirBuilder::new().recursive(true).create(directory);
            make.map_err(cannot("make the directory", directory))?;
            // Afterwards, because the umask would narrow it.
            fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))
                .map_err(cannot("set the mode of the directory", directory))?;
        }
        clear(path).await?;
        let listener = UnixListener::bind(path).map_err(cannot("bind the socket", path))?;
        let file = fs::symlink_metadata(path).map_err(cannot("look at the socket", path))?;
        let socket = Self { path: path.to_owned(), file: (file.dev(), file.ino()) };
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))
            .map_err(cannot("set the mode of the socket", path))?;
        Ok((listener, socket))
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let file = fs::symlink_metadata(&self.path).map(|file| (file.dev(), file.ino()));
        if file.is_ok_and(|file| file == self.file) {
            // If it stays, the next start finds that nobody answers and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the path free, if nobody needs what is there.
async fn clear(path: &Path) -> Result<(), Error> {
    let cannot =
        |doing: &'static str, source| Err(Error::Socket { doing, path: path.to_owned(), source });
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return cannot("look at", error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(Error::SocketTaken { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return cannot("find out whether somebody answers at", error);
        }
        // Whoever is too busy to answer is there too.
        _ => return Err(Error::SocketInUse { path: path.to_owned() }),
    }
    match fs::remove_file(path) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "replaces a socket at which nobody answered");
            Ok(())
        }
        Err(error) => cannot("replace the abandoned socket", error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_may_connect_and_the_end_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/deep/node.sock");
        let (listener, socket) = LocalSocket::bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SOCKET_MODE);
        let made = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(made.mode() & 0o777, DIRECTORY_MODE);
        drop((listener, socket));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn an_abandoned_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let living = LocalSocket::bind(&path).await.unwrap();
        let refused = LocalSocket::bind(&path).await.unwrap_err();
        assert!(matches!(refused, Error::SocketInUse { .. }), "{refused}");
        assert_eq!(refused.exit_code(), 69);
        drop(living);
    }

    #[tokio::test]
    async fn another_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.sock");
        fs::write(&path, "precious").unwrap();
        let refused = LocalSocket::bind(&path).await.unwrap_err();
        assert!(matches!(refused, Error::SocketTaken { .. }), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_of_a_later_node_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.sock");
        let (_listener, former) = LocalSocket::bind(&path).await.unwrap();
        fs::rename(&path, directory.path().join("kept.sock")).unwrap();
        let later = LocalSocket::bind(&path).await.unwrap();
        drop(former);
        assert!(path.exists());
        drop(later);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let held = port(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = held.local_addr().unwrap();
        let refused = port(address).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("another process"), "{text}");
        assert_eq!(refused.exit_code(), 69);
    }
}
