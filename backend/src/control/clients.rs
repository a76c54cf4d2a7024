//! Who is connected to a control socket, and who has to go when there are too many.
//!
//! A guest's serial port may be joined to the socket and say nothing for hours,
//! so silence is no reason to be sent away: as long as nobody else waits.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

/// Clients of one socket at a time.
pub(crate) const MAX_CLIENTS: usize = 32;

/// The clients of one socket, the one that asked longest ago first.
#[derive(Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<Vec<Arc<UnixStream>>>>);

/// One of them; leaves when dropped.
pub(crate) struct Client {
    clients: Clients,
    stream: Arc<UnixStream>,
}

impl Clients {
    /// Lets a client in. When there are too many, whoever asked longest ago is
    /// sent away for it. Returns the client and whether somebody had to go.
    pub(crate) fn admit(&self, stream: UnixStream) -> (Client, bool) {
        let stream = Arc::new(stream);
        let mut entries = self.0.lock();
        let oldest = (entries.len() >= MAX_CLIENTS).then(|| entries.remove(0));
        if let Some(oldest) = &oldest {
            // It may have left by itself.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        entries.push(Arc::clone(&stream));
        drop(entries);
        let client = Client {
            clients: self.clone(),
            stream,
        };
        (client, oldest.is_some())
    }

    fn take(&self, stream: &Arc<UnixStream>) -> Option<Arc<UnixStream>> {
        let mut entries = self.0.lock();
        let at = entries
            .iter()
            .position(|entry| Arc::ptr_eq(entry, stream))?;
        Some(entries.remove(at))
    }
}

impl Client {
    /// Its connection.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// It has asked something: it is the last to be sent away now.
    ///
    /// # Errors
    /// It has been sent away.
    pub(crate) fn asks(&self) -> io::Result<()> {
        let entry = self.clients.take(&self.stream);
        let entry = entry.ok_or(io::ErrorKind::ConnectionAborted)?;
        self.clients.0.lock().push(entry);
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.take(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn whoever_asked_longest_ago_goes_when_somebody_waits() {
        let clients = Clients::default();
        let mut ends = Vec::new();
        let mut inside = Vec::new();
        for number in 0..MAX_CLIENTS {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (client, sent_away) = clients.admit(theirs);
            assert!(!sent_away, "{number}");
            inside.push(client);
            ends.push(ours);
        }
        inside[0].asks().unwrap();
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let (_last, sent_away) = clients.admit(theirs);
        assert!(sent_away);
        assert_eq!(ends[1].read(&mut [0]).unwrap(), 0, "the second had to go");
        assert!(inside[1].asks().is_err());
        assert!(inside[0].asks().is_ok() && inside[2].asks().is_ok());
        drop(inside);
        assert_eq!(clients.0.lock().len(), 1);
    }
}
