//! What a service tells systemd (sd_notify(3)): that it is ready, that it lives, that it ends.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::Context;

/// What systemd gives a service in its environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceEnvironment {
    /// `NOTIFY_SOCKET`.
    pub(crate) notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`, when `WATCHDOG_PID` is this process or not given.
    pub(crate) watchdog_micros: Option<u64>,
}

/// The line to systemd.
#[derive(Debug)]
pub(crate) struct Systemd {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// `None` when this process is no service that notifies.
    ///
    /// # Errors
    /// When `NOTIFY_SOCKET` is not the address of a socket.
    pub(crate) fn connect(environment: &ServiceEnvironment) -> anyhow::Result<Option<Self>> {
        let Some(name) = environment.notify_socket.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
        let context = || format!("NOTIFY_SOCKET={}: not a socket that systemd gave", name.display());
        let address = address(name).with_context(context)?;
        let socket = UnixDatagram::unbound().with_context(context)?;
        // systemd that does not read must not hold the loop's attendant back.
        socket.set_nonblocking(true).with_context(context)?;
        let watchdog = environment.watchdog_micros.filter(|micros| *micros > 0).map(Duration::from_micros);
        Ok(Some(Self { socket, address, watchdog }))
    }

    /// How often systemd wants to hear that the service lives, if it does.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Sends assignments such as `READY=1`, one a line.
    ///
    /// # Errors
    /// When systemd does not take it.
    pub(crate) fn tell(&self, state: &str) -> std::io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.address).map(|_| ())
    }
}

/// A path, or with `@` before it a name in Linux's abstract namespace.
fn address(name: &OsStr) -> std::io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        _ => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let num_bytes = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..num_bytes].to_vec()).unwrap()
    }

    #[test]
    fn systemd_hears_what_it_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("foresee-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{name}").into()),
        ] {
            let environment = ServiceEnvironment { notify_socket: Some(address), watchdog_micros: Some(2_000_000) };
            let systemd = Systemd::connect(&environment).unwrap().unwrap();
            systemd.tell("READY=1\nSTATUS=on").unwrap();
            assert_eq!(receive(&socket), "READY=1\nSTATUS=on");
            assert_eq!(systemd.watchdog(), Some(Duration::from_secs(2)));
        }
    }

    #[test]
    fn without_systemd_nothing_is_told() {
        assert!(Systemd::connect(&ServiceEnvironment::default()).unwrap().is_none());
        let environment = ServiceEnvironment { notify_socket: Some("/nowhere/socket".into()), watchdog_micros: None };
        let systemd = Systemd::connect(&environment).unwrap().unwrap();
        assert!(systemd.tell("READY=1").is_err() && systemd.watchdog().is_none());
    }
}
