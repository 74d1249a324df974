//! A relay of bytes between two ends on loopback, which can be cut or broken: a network that fails when it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context;

/// Bytes flow.
pub(crate) const OPEN: u8 = 0;
/// Bytes wait in the sockets, as they would on their way.
pub(crate) const CUT: u8 = 1;
/// Connections are closed, and none is taken.
pub(crate) const BROKEN: u8 = 2;
/// For good.
pub(crate) const ENDED: u8 = 3;

/// Passes bytes on between the loop and the robot, in the mode that is set.
pub(crate) struct Relay {
    /// Where the loop connects.
    pub(crate) endpoint: String,
    /// One of the modes.
    pub(crate) mode: Arc<AtomicU8>,
}

impl Relay {
    /// Listens on loopback, for a robot at this address.
    ///
    /// # Errors
    /// No free port, or no thread.
    pub(crate) fn start(robot: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("loopback has no free port")?;
        listener.set_nonblocking(true)?;
        let endpoint = format!("tcp/{}", listener.local_addr()?);
        let mode = Arc::<AtomicU8>::default();
        let accept = {
            let mode = Arc::clone(&mode);
            move || {
                while mode.load(Ordering::SeqCst) != ENDED {
                    match listener.accept() {
                        Ok((from_loop, _)) if mode.load(Ordering::SeqCst) != BROKEN => relay(&from_loop, &robot, &mode),
                        _ => std::thread::sleep(Duration::from_millis(2)),
                    }
                }
            }
        };
        std::thread::Builder::new().name("foresee-fault-relay".to_owned()).spawn(accept)?;
        Ok(Self { endpoint, mode })
    }
}

/// Two threads a connection; a connection that cannot be made is closed, and the loop tries again.
fn relay(from_loop: &TcpStream, robot: &str, mode: &Arc<AtomicU8>) {
    let Ok(to_robot) = TcpStream::connect(robot) else { return };
    drop(from_loop.set_nonblocking(false));
    for (from, to) in [(from_loop, &to_robot), (&to_robot, from_loop)] {
        let (Ok(from), Ok(to), mode) = (from.try_clone(), to.try_clone(), Arc::clone(mode)) else { return };
        // Without the thread nothing flows, and the row fails.
        drop(std::thread::Builder::new().name("foresee-fault-wire".to_owned()).spawn(move || pump(from, to, &mode)));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, mode: &AtomicU8) {
    drop(from.set_nodelay(true));
    drop(to.set_nodelay(true));
    drop(from.set_read_timeout(Some(Duration::from_millis(5))));
    let mut bytes = vec![0; 1 << 16];
    loop {
        match mode.load(Ordering::SeqCst) {
            CUT => {
                // What was sent waits in the socket, as it would on its way.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            BROKEN | ENDED => break,
            _ => {}
        }
        let num_bytes = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(num_bytes) => num_bytes,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        if bytes.get(..num_bytes).is_none_or(|bytes| to.write_all(bytes).is_err()) {
            break;
        }
    }
    // Closed already, it needs no closing.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
