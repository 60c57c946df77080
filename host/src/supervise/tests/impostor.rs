//! A fake supervisor that sends the messages that a test chooses: messages of another version, or
//! messages at a moment at which the real supervisor rarely sends them.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use super::process;
use crate::supervise::frame::{self, Incoming};
use crate::supervise::protocol::PROTOCOL;

pub(super) struct Impostor(JoinHandle<usize>);

impl Impostor {
    /// Welcomes the host as the first release of this protocol version did, and sends `words`
    /// together with the welcome. After that it only reads.
    pub(super) fn begin(data_dir: &Path, words: Vec<Value>) -> Self {
        Self::of_protocol(PROTOCOL, data_dir, words)
    }

    /// Like [`Impostor::begin`], with a welcome that names this version of the protocol.
    pub(super) fn of_protocol(protocol: u32, data_dir: &Path, words: Vec<Value>) -> Self {
        let dir = data_dir.join("supervisors/1");
        std::fs::create_dir_all(&dir).unwrap();
        let lock = std::fs::File::create(dir.join(process::LOCK_FILE)).unwrap();
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let listener = UnixListener::bind(dir.join(process::SOCKET_FILE)).unwrap();
        let identity =
            json!({"pid": std::process::id(), "start_time": 1, "boot_id": "b", "build": "older"});
        let welcome =
            json!({"welcome": {"protocol": protocol, "identity": identity, "received": 0}});
        let mut bytes = Vec::new();
        for word in std::iter::once(&welcome).chain(&words) {
            frame::encode(word, &mut bytes).unwrap();
        }
        Self(std::thread::spawn(move || {
            let _lock = lock;
            let (mut host, _) = listener.accept().unwrap();
            host.write_all(&bytes).unwrap();
            let mut heard = Vec::new();
            host.read_to_end(&mut heard).unwrap();
            let mut incoming = Incoming::default();
            incoming.extend(&heard);
            let frames = std::iter::from_fn(|| incoming.next_frame().unwrap().map(<[u8]>::len));
            frames.count()
        }))
    }

    /// Waits for the host to disconnect; returns how many frames the host sent.
    pub(super) fn heard(self) -> usize {
        self.0.join().unwrap()
    }
}
