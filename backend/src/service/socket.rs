//! Listening on a socket file, and leaving nothing behind.

use std::fmt::Display;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;

/// The longest socket path in bytes: what `sockaddr_un` holds, less its final zero.
const MAX_PATH: usize = 107;

/// How long a client may take for its first message: while it is silent,
/// nobody else can have the GPU.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long nobody is let in when there was no descriptor, thread or memory for
/// that. Nothing tells when there is again, and whoever waits makes the socket
/// ready all the time.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel has no room for the name.
    #[error(
        "socket path {} is {} bytes long, at most {MAX_PATH} are possible: use a shorter directory, such as one made by mktemp -d",
        .0.display(), .0.as_os_str().len()
    )]
    TooLong(PathBuf),
    /// A server runs there.
    #[error("socket {} is in use by another server: end that one or choose another path", .0.display())]
    InUse(PathBuf),
    /// Something else lies there.
    #[error("{} exists and is not a socket: it is not replaced, choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("cannot listen on {}: {error}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Who may connect to a socket.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The permissions of its file.
    pub mode: u32,
    /// Its group, if not this process's.
    pub group: Option<u32>,
}

/// The number of a group, from its name or number.
///
/// # Errors
/// What is wrong with it, in words.
pub fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").map_err(|error| error.to_string())?;
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text)).then(|| fields.nth(1))?
    });
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("/etc/group has no group {text}: give its number"))
}

/// A path that the kernel has room for.
///
/// # Errors
/// [`SocketError::TooLong`].
pub fn possible(path: PathBuf) -> Result<PathBuf, SocketError> {
    if path.as_os_str().len() > MAX_PATH {
        return Err(SocketError::TooLong(path));
    }
    Ok(path)
}

/// A listening socket whose file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket that was listened on here.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode; nobody else is given that number while we listen.
    id: Option<(u64, u64)>,
}

impl SocketFile {
    fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            id: id_of(path),
        }
    }

    /// Removes it, unless it is another server's by now.
    pub fn remove(&self) {
        if id_of(&self.path) == self.id {
            // It may be gone already, with its directory.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    let data = path.symlink_metadata().ok()?;
    Some((data.dev(), data.ino()))
}

impl Socket {
    /// Listens on `path`. A socket file on which nobody listens any more is replaced.
    /// Only those whom `access` names can connect, whatever the umask.
    pub fn listen(path: &Path, access: Access) -> Result<Self, SocketError> {
        possible(path.to_owned())?;
        let failed = |error| SocketError::Io {
            path: path.to_owned(),
            error,
        };
        let listener = match bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                bind(path)
            }
            other => other,
        };
        let socket = Self {
            listener: listener.map_err(failed)?,
            file: SocketFile::at(path),
        };
        // The group first: the mode may let it in.
        std::os::unix::fs::chown(path, None, access.group).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(access.mode);
        std::fs::set_permissions(path, mode).map_err(failed)?;
        Ok(socket)
    }

    /// The listening end.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// What is to be removed at the end.
    pub fn file(&self) -> &SocketFile {
        &self.file
    }
}

/// Tells why nobody is let in at `socket`, and waits before the next try.
pub(crate) fn pause(socket: &Path, error: &dyn Display) {
    tracing::error!(
        "{}: {error}. Trying again every second; if files are too many, end other clients or \
         start presil with a larger limit (ulimit -n)",
        socket.display()
    );
    std::thread::sleep(PAUSE);
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.file.remove();
    }
}

/// Listens at a file that this user alone can use, from its first moment on.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::RWXG | Mode::RWXO);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |error| SocketError::Io {
        path: path.to_owned(),
        error,
    };
    if !path
        .symlink_metadata()
        .map_err(failed)?
        .file_type()
        .is_socket()
    {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!("replacing the stale socket {}", path.display());
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}
