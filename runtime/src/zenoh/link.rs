//! One zenoh session of one robot: its configuration, its keys, its publishers.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::zenoh::Wait;
use ::zenoh::bytes::ZBytes;
use ::zenoh::liveliness::LivelinessToken;
use ::zenoh::pubsub::{Publisher, Subscriber};
use ::zenoh::qos::{CongestionControl, Priority, Reliability};
use ::zenoh::sample::{Locality, Sample, SampleKind};
use foresee_firmware_config::{ZenohMode, ZenohProfile, is_endpoint, zenoh_config};

use crate::error::RuntimeError;
use crate::time::Clock;
use crate::wire::{NamedCommand, decode_command};

/// An endpoint on loopback that nobody listens on now, at an address of this process's own: at 127.0.0.1 a connection that starts
/// there could be given the same port before it is listened on.
///
/// # Errors
/// [`RuntimeError::Transport`] when there is no free port.
pub fn free_loopback_endpoint() -> Result<String, RuntimeError> {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 128 | high, middle, low);
    let address = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr());
    let no_port = |error| RuntimeError::Transport(format!("loopback has no free port: {error}"));
    address.map(|address| format!("tcp/{address}")).map_err(no_port)
}

/// A zenoh session for one robot's keys.
#[derive(Clone, Debug)]
pub struct ZenohLink {
    session: ::zenoh::Session,
    prefix: String,
    /// Of this session among those of a robot: when it was opened, in nanoseconds.
    number: u64,
}

impl ZenohLink {
    /// Opens a session that listens on and connects to the profile's endpoints. A peer's endpoints to connect to need not be there
    /// yet; a client waits some seconds for its router.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`] when an endpoint is not one, or cannot be listened on (a port in use), or no router answers.
    pub fn open(robot: &str, zenoh: &ZenohProfile) -> Result<Self, RuntimeError> {
        if let Some(wrong) = zenoh.listen.iter().chain(&zenoh.connect).find(|endpoint| !is_endpoint(endpoint)) {
            let problem = format!("endpoint {wrong:?}: give PROTOCOL/HOST:PORT, such as tcp/127.0.0.1:7447");
            return Err(RuntimeError::Transport(problem));
        }
        let text = zenoh_config(zenoh).to_string();
        let config = ::zenoh::Config::from_json5(&text)
            .map_err(|error| RuntimeError::Transport(format!("{text}: {}", one_line(&error.to_string()))))?;
        let session = ::zenoh::open(config).wait().map_err(|error| {
            let (listen, cause) = (zenoh.listen.join(", "), one_line(&error.to_string()));
            let problem = format!(
                "cannot listen on {listen}: {cause}; is it in use? give another endpoint, or end what holds it"
            );
            let connect = zenoh.connect.join(", ");
            let no_router =
                format!("no zenoh router answers at {connect}: {cause}; start it first, or give its address");
            RuntimeError::Transport(match zenoh.mode {
                ZenohMode::Client => no_router,
                ZenohMode::Peer if zenoh.listen.is_empty() => cause,
                ZenohMode::Peer => problem,
            })
        })?;
        Ok(Self { session, prefix: format!("foresee/{robot}/"), number: Clock::Wall.now().nanos })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The robot's name.
    pub(super) fn robot(&self) -> &str {
        self.prefix.trim_start_matches("foresee/").trim_end_matches('/')
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Reliable, in order, waiting rather than dropping, and sent at once.
    pub(super) fn publisher(&self, name: &str) -> Result<Publisher<'static>, RuntimeError> {
        self.publisher_with(name, CongestionControl::Block)
    }

    /// Where the newest counts and nobody may wait: a full queue drops.
    pub(super) fn prompt_publisher(&self, name: &str) -> Result<Publisher<'static>, RuntimeError> {
        self.publisher_with(name, CongestionControl::Drop)
    }

    fn publisher_with(&self, name: &str, congestion: CongestionControl) -> Result<Publisher<'static>, RuntimeError> {
        let publisher = self.session.declare_publisher(self.key(name));
        let publisher = publisher.congestion_control(congestion).express(true).priority(Priority::RealTime);
        publisher.reliability(Reliability::Reliable).allowed_destination(Locality::Remote).wait().map_err(transport)
    }

    /// Puts every message of `name` into the mailbox as `wrap` makes it.
    pub(super) fn subscriber<M: Send + 'static>(
        &self,
        name: &str,
        mailbox: &Mailbox<M>,
        wrap: impl Fn(Message) -> M + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        let mailbox = mailbox.clone();
        self.deliver(name, move |message| mailbox.put(wrap(message)))
    }

    /// Puts a letter for every message of `name` into the mailbox; of the latest alone, one while it is not opened. The latest never
    /// comes before what was put in order before it.
    pub(super) fn letters<M: Send + 'static>(
        &self,
        name: &str,
        (mailbox, delivery): (&Mailbox<M>, Delivery),
        wrap: impl Fn(Letter) -> M + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        let mailbox = mailbox.clone();
        match delivery {
            Delivery::InOrder => self.deliver(name, move |message| mailbox.put(wrap(Letter::Message(message)))),
            Delivery::Latest => {
                let latest = Mutex::new((0, Slot::default()));
                self.deliver(name, move |message| {
                    let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
                    let num_ordered = mailbox.num_ordered.load(Ordering::Acquire);
                    if latest.0 != num_ordered {
                        // The letter that waits stands before what came since: it is empty now, and another one follows.
                        drop(latest.1.lock().take());
                        *latest = (num_ordered, Slot::default());
                    }
                    latest.1.put(message, |slot| mailbox.offer(wrap(Letter::Latest(slot.clone()))));
                })
            }
        }
    }

    fn deliver(
        &self,
        name: &str,
        take: impl Fn(Message) + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        let subscriber = self.session.declare_subscriber(self.key(name)).allowed_origin(Locality::Remote);
        subscriber.callback(move |sample| take(Message::of(sample))).wait().map_err(transport)
    }

    /// Says that this side is here, for as long as the token lives.
    pub(super) fn appear(&self, side: &str) -> Result<LivelinessToken, RuntimeError> {
        self.session.liveliness().declare_token(self.key(&format!("alive/{side}"))).wait().map_err(transport)
    }

    /// Puts the other side's coming and going into the mailbox.
    pub(super) fn watch<M: Send + 'static>(
        &self,
        side: &str,
        mailbox: &Mailbox<M>,
        wrap: impl Fn(bool) -> M + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        let mailbox = mailbox.clone();
        let deliver = move |sample: Sample| mailbox.put(wrap(sample.kind() == SampleKind::Put));
        let key = self.key(&format!("alive/{side}"));
        self.session.liveliness().declare_subscriber(key).history(true).callback(deliver).wait().map_err(transport)
    }

    /// The same for every `side/<number>`, with its number.
    pub(super) fn watch_numbers<M: Send + 'static>(
        &self,
        side: &str,
        mailbox: &Mailbox<M>,
        wrap: impl Fn(u64, bool) -> M + Send + Sync + 'static,
    ) -> Result<Subscriber<()>, RuntimeError> {
        let mailbox = mailbox.clone();
        let deliver = move |sample: Sample| {
            let number = sample.key_expr().as_str().rsplit('/').next().and_then(|number| number.parse().ok());
            number.into_iter().for_each(|number| mailbox.put(wrap(number, sample.kind() == SampleKind::Put)));
        };
        let key = self.key(&format!("alive/{side}/*"));
        self.session.liveliness().declare_subscriber(key).history(true).callback(deliver).wait().map_err(transport)
    }

    /// Calls `heard` whenever an operator says `word` (`stop`, `clear_fault`) to this robot, from zenoh's own thread: the loop need not be alive.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn hear(&self, word: &str, heard: impl Fn() + Send + Sync + 'static) -> Result<Hearing, RuntimeError> {
        let subscriber = self.session.declare_subscriber(self.key(word)).callback(move |_| heard());
        subscriber.wait().map(Hearing).map_err(transport)
    }

    /// Takes every message of a key as it comes, on zenoh's own thread.
    pub(super) fn attend(
        &self,
        name: &str,
        take: impl Fn(&Message) + Send + Sync + 'static,
    ) -> Result<Hearing, RuntimeError> {
        self.deliver(name, move |message| take(&message)).map(Hearing)
    }

    /// Calls `heard` with the values of every joint command that goes over the wire, and `None` for one that cannot be read.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn overhear(&self, heard: impl Fn(Option<&[f64]>) + Send + Sync + 'static) -> Result<Hearing, RuntimeError> {
        let deliver = move |sample: Sample| {
            let mut command = NamedCommand::default();
            let read = decode_command(&sample.payload().to_bytes(), &mut command);
            heard(read.is_ok().then_some(command.values.as_slice()));
        };
        let subscriber = self.session.declare_subscriber(self.key("joint_command")).callback(deliver);
        subscriber.wait().map(Hearing).map_err(transport)
    }

    /// Says `word` to the robot once somebody listens; gives whether anybody did within `timeout`.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn say(&self, word: &str, timeout: Duration) -> Result<bool, RuntimeError> {
        let publisher = self.publisher(word)?;
        let deadline = Instant::now() + timeout;
        while !publisher.matching_status().wait().map_err(transport)?.matching() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        publisher.put(Vec::<u8>::new()).wait().map_err(transport).map(|()| true)
    }

    /// Ends the session: the other side learns at once that this one left.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`] when the session does not close in order.
    pub fn close(&self) -> Result<(), RuntimeError> {
        self.session.close().wait().map_err(transport)
    }
}

/// Listens to an operator for as long as it lives.
#[derive(Debug)]
pub struct Hearing(#[expect(dead_code, reason = "it listens until it is dropped")] Subscriber<()>);

/// A message as it came, and the sequence that it carries; another program sends none, or an attachment of its own (rmw_zenoh: 33 bytes).
#[derive(Debug)]
pub(super) struct Message {
    pub(super) payload: ZBytes,
    pub(super) sequence: Option<u64>,
    /// Which loop sent it; a plain ROS 2 peer does not say.
    pub(super) number: Option<u64>,
    pub(super) arrived: Instant,
}

impl Message {
    fn of(sample: Sample) -> Self {
        let attached = sample.attachment().map(|attachment| attachment.to_bytes());
        let (sequence, number) = numbers(attached.as_deref().unwrap_or_default());
        Self { payload: sample.payload().clone(), sequence, number, arrived: Instant::now() }
    }
}

/// The sequence and the loop's number, of an attachment of ours.
fn numbers(attachment: &[u8]) -> (Option<u64>, Option<u64>) {
    match attachment.as_chunks::<8>() {
        ([sequence], []) => (Some(u64::from_le_bytes(*sequence)), None),
        ([sequence, number], []) => (Some(u64::from_le_bytes(*sequence)), Some(u64::from_le_bytes(*number))),
        _ => (None, None),
    }
}

/// Which messages of a key reach their reader.
#[derive(Clone, Copy, Debug)]
pub(super) enum Delivery {
    /// Each, in order with whatever else comes.
    InOrder,
    /// The latest, however long nobody reads.
    Latest,
}

/// A message, as it lies in a mailbox.
#[derive(Debug)]
pub(super) enum Letter {
    Message(Message),
    /// Whatever is the latest when it is opened.
    Latest(Slot),
}

impl Letter {
    pub(super) fn open(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
            Self::Latest(slot) => slot.lock().take(),
        }
    }
}

/// The latest message of a key: a newer one takes its place.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Message>>>);

impl Slot {
    /// `announce` tells the reader, who knows already while a message waits, and gives whether it could.
    fn put(&self, message: Message, announce: impl FnOnce(&Self) -> bool) {
        let mut slot = self.lock();
        if slot.replace(message).is_none() && !announce(self) {
            *slot = None;
        }
    }

    /// A thread that panicked while it held the lock left a message that is still one.
    fn lock(&self) -> MutexGuard<'_, Option<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending half of a bounded mailbox, in order; full, it drops the newest and counts.
#[derive(Debug)]
pub(super) struct Mailbox<M> {
    sender: SyncSender<M>,
    num_dropped: Arc<AtomicU64>,
    /// Messages that were put in order so far.
    num_ordered: Arc<AtomicU64>,
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        let Self { sender, num_dropped, num_ordered } = self;
        Self { sender: sender.clone(), num_dropped: num_dropped.clone(), num_ordered: num_ordered.clone() }
    }
}

impl<M> Mailbox<M> {
    pub(super) fn new(capacity: usize) -> (Self, Receiver<M>) {
        let (sender, receiver) = sync_channel(capacity);
        (Self { sender, num_dropped: Arc::default(), num_ordered: Arc::default() }, receiver)
    }

    fn put(&self, message: M) {
        self.offer(message);
        self.num_ordered.fetch_add(1, Ordering::Release);
    }

    /// Gives whether there was room.
    fn offer(&self, message: M) -> bool {
        match self.sender.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.num_dropped.fetch_add(1, Ordering::Relaxed);
                false
            }
            // The reader is gone: the session is about to end.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    pub(super) fn num_dropped(&self) -> u64 {
        self.num_dropped.load(Ordering::Relaxed)
    }
}

pub(super) fn transport(error: ::zenoh::Error) -> RuntimeError {
    RuntimeError::Transport(one_line(&error.to_string()))
}

/// Without the places in its own code that zenoh names.
fn one_line(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        if word.contains(".rs:") && words.last() == Some(&"at") {
            words.pop();
            // What closed the place closes what was said before it.
            let closes = word.trim_start_matches(|c| c != ']').trim_end_matches('.');
            words.extend(Some(closes).filter(|closes| !closes.is_empty()));
        } else {
            words.push(word);
        }
    }
    words.join(" ").replace(" ]", "]")
}
