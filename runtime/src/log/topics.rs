//! Which topics of a log are read: matched by whole name segments and by type, never by how a name ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foresee_firmware_config::DeviceProfile;

use super::Topic;
use crate::wire::{MessageKind, extra_image};

/// The encoding of every message that is read.
const MESSAGE_ENCODING: &str = "cdr";
const COMPRESSED_IMAGE: &str = "sensor_msgs/msg/CompressedImage";

/// Which topics of a log are read.
///
/// A topic is matched by whole name segments (`/rear_camera/image` is not `camera/image`) and by its type. The robot's own topic
/// (`/<robot>/camera/image`) comes first; otherwise exactly one topic must match, under any namespace.
#[derive(Clone, Debug, Default)]
pub struct LogTopics {
    robot: Option<String>,
    /// The profile's first camera: `NAME=TOPIC` may name it.
    camera: Option<String>,
    extra_cameras: ExtraCameras,
    needs_joints: bool,
    reads_all: bool,
    named: Vec<String>,
}

#[derive(Clone, Debug, Default)]
enum ExtraCameras {
    #[default]
    None,
    All,
    Of(Vec<String>),
}

impl LogTopics {
    /// Every topic of a robot, with all its cameras.
    pub fn all() -> Self {
        Self { extra_cameras: ExtraCameras::All, reads_all: true, ..Self::default() }
    }

    /// The first camera's images and the episodes.
    pub fn frames() -> Self {
        Self::default()
    }

    /// What a loop with this profile sees and commands: its cameras, joint states, commands and episodes.
    pub fn of_profile(profile: &DeviceProfile) -> Self {
        let extra = profile.extra_cameras.iter().map(|extra| extra.camera.name.clone()).collect();
        Self {
            robot: Some(profile.robot.clone()),
            camera: Some(profile.camera.name.clone()),
            extra_cameras: ExtraCameras::Of(extra),
            needs_joints: true,
            reads_all: true,
            named: Vec::new(),
        }
    }

    /// Topics that the user names, each as `TOPIC` or `CAMERA=TOPIC`; they take the place of those found by name.
    #[must_use]
    pub fn with_named(mut self, named: &[String]) -> Self {
        self.named = named.to_vec();
        self
    }

    /// Decides which channels are read.
    ///
    /// # Errors
    /// A text that names the topics in question and the fix: several topics match, a named topic is not there or has another type, or
    /// the images lie under another name.
    pub(super) fn resolve(&self, header_robot: &str, channels: &[Declared]) -> Result<Resolved, String> {
        let robots: BTreeSet<&str> = [header_robot, self.robot.as_deref().unwrap_or_default()]
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        let named = self.named_roles(channels)?;
        let mut resolved = Resolved::default();
        for role in self.roles(channels) {
            let chosen = match named.get(&role) {
                Some(topic) => Some(*topic),
                None => self.find(&role, &robots, channels)?,
            };
            let Some(chosen) = chosen else { continue };
            for channel in channels.iter().filter(|channel| channel.name() == chosen && channel.is(role.kind())) {
                resolved.roles.insert(channel.id, role.clone());
            }
        }
        for channel in channels.iter().filter(|channel| !resolved.roles.contains_key(&channel.id)) {
            if let Some(reason) = self.reason_passed_over(channel, channels) {
                resolved
                    .passed_over
                    .insert(channel.id, PassedOver { topic: channel.topic.clone(), reason, num_messages: 0 });
            }
        }
        Ok(resolved)
    }

    fn roles(&self, channels: &[Declared]) -> Vec<Role> {
        let topics = if self.reads_all { Topic::ALL.to_vec() } else { vec![Topic::Image, Topic::Episode] };
        let extra: BTreeSet<String> = match &self.extra_cameras {
            ExtraCameras::None => BTreeSet::new(),
            ExtraCameras::Of(names) => names.iter().cloned().collect(),
            ExtraCameras::All => channels.iter().filter_map(Declared::extra_camera).map(str::to_owned).collect(),
        };
        topics.into_iter().map(Role::Of).chain(extra.into_iter().map(Role::Extra)).collect()
    }

    /// The topics that the user named, by what they stand for.
    fn named_roles<'a>(&self, channels: &'a [Declared]) -> Result<BTreeMap<Role, &'a str>, String> {
        let mut roles = BTreeMap::new();
        for named in &self.named {
            let (camera, wanted) =
                named.split_once('=').map_or((None, named.as_str()), |(camera, topic)| (Some(camera), topic));
            let Some(channel) = channels.iter().find(|channel| channel.name() == trimmed(wanted)) else {
                let known = list(channels.iter().filter(|channel| channel.kind().is_some()));
                return Err(format!("has no topic `{wanted}` (--topic); topics that can be read: {known}"));
            };
            let role = match (camera, channel.kind()) {
                (Some(camera), Some(MessageKind::Image)) if self.camera.as_deref() != Some(camera) => {
                    Role::Extra(camera.to_owned())
                }
                (_, Some(MessageKind::Image)) => Role::Of(Topic::Image),
                (_, Some(MessageKind::JointState)) => Role::Of(Topic::JointStates),
                (_, Some(MessageKind::Episode)) => Role::Of(Topic::Episode),
                (_, Some(MessageKind::JointCommand)) if channel.ends_with(Topic::ExpertCommand.name()) => {
                    Role::Of(Topic::ExpertCommand)
                }
                (_, Some(MessageKind::JointCommand)) => Role::Of(Topic::JointCommand),
                (_, Some(MessageKind::Reward) | None) => {
                    return Err(format!("topic `{}` (--topic) {}", channel.topic, channel.why_not(None)));
                }
            };
            if let Some(other) = roles.insert(role, channel.name()) {
                return Err(format!(
                    "--topic names both `/{other}` and `/{}` for the same part; give one",
                    channel.name()
                ));
            }
        }
        Ok(roles)
    }

    /// The one topic that stands for `role`, if there is any.
    fn find<'a>(
        &self,
        role: &Role,
        robots: &BTreeSet<&str>,
        channels: &'a [Declared],
    ) -> Result<Option<&'a str>, String> {
        let name = role.name();
        let candidates: BTreeSet<&str> = channels
            .iter()
            .filter(|channel| channel.is(role.kind()) && channel.ends_with(&name))
            .map(Declared::name)
            .collect();
        let is_own = |topic: &&&str| {
            let namespace = topic.strip_suffix(name.as_str()).map(|namespace| namespace.trim_end_matches('/'));
            namespace.is_some_and(|namespace| robots.contains(namespace))
        };
        if let Some(own) = candidates.iter().find(is_own) {
            return Ok(Some(own));
        }
        let mut found = candidates.iter();
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(Some(only)),
            (Some(_), Some(_)) => {
                let topics: Vec<String> = candidates.iter().map(|topic| format!("/{topic}")).collect();
                Err(format!("has several topics for `{name}`: {}; choose one with --topic TOPIC", topics.join(", ")))
            }
            (None, _) => self.check_absence(role, channels).map(|()| None),
        }
    }

    /// A part that cannot be done without, and that the log holds in another form, is refused; one that is not there at all is the reader's
    /// to judge.
    fn check_absence(&self, role: &Role, channels: &[Declared]) -> Result<(), String> {
        let is_needed = match role {
            Role::Of(Topic::Image) => true,
            Role::Of(Topic::JointStates) => self.needs_joints,
            Role::Of(_) | Role::Extra(_) => false,
        };
        let name = role.name();
        if !is_needed {
            return Ok(());
        }
        if let Some(channel) = channels.iter().find(|channel| channel.ends_with(&name)) {
            return Err(format!("topic `{}` {}", channel.topic, channel.why_not(Some(role.kind()))));
        }
        let of_type = |channel: &&Declared| {
            channel.is(role.kind()) || (role.kind() == MessageKind::Image && channel.schema == COMPRESSED_IMAGE)
        };
        if channels.iter().any(|channel| of_type(&channel)) {
            let known = list(channels.iter().filter(of_type));
            return Err(format!("has no topic `{name}`; topics of that kind: {known}; choose one with --topic TOPIC"));
        }
        Ok(())
    }

    /// Why a channel that could be meant is not read; `None` for channels that have nothing to do with us.
    fn reason_passed_over(&self, channel: &Declared, channels: &[Declared]) -> Option<String> {
        let role = self.roles(channels).into_iter().find(|role| channel.ends_with(&role.name()))?;
        Some(if channel.is(role.kind()) {
            "is not the one that is read for this part".to_owned()
        } else {
            channel.why_not(Some(role.kind()))
        })
    }
}

/// What a channel holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Of(Topic),
    /// Images of the camera of this name.
    Extra(String),
}

impl Role {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Of(topic) => topic.name().to_owned(),
            Self::Extra(camera) => extra_image(camera),
        }
    }

    fn kind(&self) -> MessageKind {
        match self {
            Self::Of(topic) => topic.kind(),
            Self::Extra(_) => MessageKind::Image,
        }
    }
}

/// A channel as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) id: u16,
    pub(super) topic: String,
    pub(super) message_encoding: String,
    /// The schema's name; empty without a schema.
    pub(super) schema: String,
}

impl Declared {
    /// Without the slash in front.
    fn name(&self) -> &str {
        trimmed(&self.topic)
    }

    fn kind(&self) -> Option<MessageKind> {
        let mut kinds = MessageKind::ALL.into_iter();
        kinds.find(|kind| self.message_encoding == MESSAGE_ENCODING && self.schema == kind.type_name())
    }

    fn is(&self, kind: MessageKind) -> bool {
        self.kind() == Some(kind)
    }

    /// Whether the name is `name`, or ends with it behind a slash.
    fn ends_with(&self, name: &str) -> bool {
        self.name().strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    }

    /// `side` of `.../camera/side/image`, for images.
    fn extra_camera(&self) -> Option<&str> {
        let (rest, camera) = self.name().strip_suffix("/image")?.rsplit_once('/')?;
        let is_camera = rest == "camera" || rest.ends_with("/camera");
        (is_camera && self.is(MessageKind::Image)).then_some(camera)
    }

    /// Why it is not read where `wanted` is.
    fn why_not(&self, wanted: Option<MessageKind>) -> String {
        let wanted = wanted.map_or_else(
            || MessageKind::ALL.map(MessageKind::type_name).join(", "),
            |wanted| wanted.type_name().to_owned(),
        );
        let (schema, encoding) = (&self.schema, &self.message_encoding);
        if schema == COMPRESSED_IMAGE {
            return format!(
                "has type {schema}, where {wanted} is read; record the raw image, or republish it: ros2 run image_transport republish compressed raw"
            );
        }
        if schema.is_empty() {
            return format!("has no type, where {wanted} is read; record it with its schema");
        }
        if encoding != MESSAGE_ENCODING {
            return format!(
                "has type {schema} in encoding `{encoding}`, where {wanted} in `cdr` is read; record it with ROS 2"
            );
        }
        format!("has type {schema}, where {wanted} is read")
    }
}

/// Channels whose messages are not read, although their names could mean ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PassedOver {
    pub(super) topic: String,
    pub(super) reason: String,
    pub(super) num_messages: u64,
}

/// What is read, and what is not, by channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) roles: HashMap<u16, Role>,
    pub(super) passed_over: BTreeMap<u16, PassedOver>,
}

fn trimmed(topic: &str) -> &str {
    topic.trim_start_matches('/')
}

fn list<'a>(channels: impl Iterator<Item = &'a Declared>) -> String {
    let topics: BTreeSet<String> = channels.map(|channel| format!("{} ({})", channel.topic, channel.schema)).collect();
    if topics.is_empty() { "none".to_owned() } else { topics.into_iter().collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "sensor_msgs/msg/Image";
    const JOINTS: &str = "sensor_msgs/msg/JointState";
    const COMMAND: &str = "foresee_msgs/msg/JointCommand";

    fn declare(topics: &[(&str, &str)]) -> Vec<Declared> {
        let channel = |(id, (topic, schema)): (usize, &(&str, &str))| Declared {
            id: id as u16,
            topic: (*topic).to_owned(),
            message_encoding: "cdr".to_owned(),
            schema: (*schema).to_owned(),
        };
        topics.iter().enumerate().map(channel).collect()
    }

    /// The numbers of the channels that are read, or the problem.
    fn read(topics: &LogTopics, robot: &str, declared: &[(&str, &str)]) -> Result<Vec<u16>, String> {
        let resolved = topics.resolve(robot, &declare(declared))?;
        let mut ids: Vec<u16> = resolved.roles.into_keys().collect();
        ids.sort_unstable();
        Ok(ids)
    }

    #[test]
    fn a_topic_is_matched_by_whole_segments_and_by_type() {
        let all = LogTopics::all();
        assert_eq!(read(&all, "", &[("/camera/image", IMAGE), ("/rear_camera/image", IMAGE)]), Ok(vec![0]));
        assert_eq!(read(&all, "", &[("/arm/camera/image", IMAGE), ("/myjoint_states", JOINTS)]), Ok(vec![0]));
        assert_eq!(
            read(&all, "", &[("/camera/image", IMAGE), ("/annotation/episode", "std_msgs/msg/String")]),
            Ok(vec![0])
        );
        let side = [("/camera/image", IMAGE), ("/camera/side/image", IMAGE), ("/camera/x/side/image", IMAGE)];
        assert_eq!(read(&all, "", &side), Ok(vec![0, 1]));
        assert_eq!(read(&LogTopics::frames(), "", &side), Ok(vec![0]));
        // The robot's own come first, by the header or by the profile.
        let robots = [("/a/camera/image", IMAGE), ("/b/camera/image", IMAGE), ("/a/b/camera/image", IMAGE)];
        assert_eq!(read(&all, "b", &robots), Ok(vec![1]));
        let of_b = LogTopics { robot: Some("b".to_owned()), ..LogTopics::all() };
        assert_eq!(read(&of_b, "", &robots), Ok(vec![1]));
    }

    #[test]
    fn what_is_ambiguous_or_of_another_type_is_refused_with_topics_and_flag() {
        let check = |topics: &LogTopics, declared: &[(&str, &str)], needles: &[&str]| {
            let problem = read(topics, "", declared).unwrap_err();
            assert!(
                needles.iter().all(|needle| problem.contains(needle))
                    && problem.contains("--topic") | problem.contains("republish"),
                "{problem}"
            );
        };
        let arms = [("/camera/image", IMAGE), ("/left/joint_states", JOINTS), ("/right/joint_states", JOINTS)];
        check(&LogTopics::all(), &arms, &["/left/joint_states", "/right/joint_states", "--topic"]);
        assert_eq!(read(&LogTopics::frames(), "", &arms), Ok(vec![0]));
        let chosen = |topic: &str| LogTopics::all().with_named(&[topic.to_owned()]);
        assert_eq!(read(&chosen("/right/joint_states"), "", &arms), Ok(vec![0, 2]));
        assert_eq!(read(&chosen("left/joint_states"), "", &arms), Ok(vec![0, 1]));
        check(&chosen("/up/joint_states"), &arms, &["/up/joint_states", "/left/joint_states"]);
        check(
            &LogTopics::frames(),
            &[("/front/rgb", IMAGE), ("/rear/rgb", IMAGE)],
            &["/front/rgb", "/rear/rgb", "camera/image"],
        );
        assert_eq!(
            read(
                &LogTopics::frames().with_named(&["/rear/rgb".to_owned()]),
                "",
                &[("/front/rgb", IMAGE), ("/rear/rgb", IMAGE)]
            ),
            Ok(vec![1])
        );
        check(
            &LogTopics::frames(),
            &[("/camera/image", COMPRESSED_IMAGE)],
            &["/camera/image", "CompressedImage", "republish"],
        );
        check(&chosen("/tf"), &[("/camera/image", IMAGE), ("/tf", "tf2_msgs/msg/TFMessage")], &["/tf", "TFMessage"]);
    }

    #[test]
    fn topics_that_could_be_meant_are_named_as_passed_over_and_others_are_not() {
        let declared = declare(&[
            ("/camera/image", IMAGE),
            ("/note/episode", "std_msgs/msg/String"),
            ("/tf", "tf2_msgs/msg/TFMessage"),
            ("/joint_command", COMMAND),
        ]);
        let resolved = LogTopics::frames().resolve("", &declared).unwrap();
        let passed: Vec<&str> = resolved.passed_over.values().map(|passed| passed.topic.as_str()).collect();
        assert_eq!(passed, ["/note/episode"]);
        assert!(resolved.passed_over[&1].reason.contains("std_msgs/msg/String"), "{resolved:?}");
        let mut other = declare(&[("/camera/image", IMAGE)]);
        other[0].message_encoding = "ros1".to_owned();
        assert!(LogTopics::frames().resolve("", &other).unwrap_err().contains("`ros1`"));
    }
}
