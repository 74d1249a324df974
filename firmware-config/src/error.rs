//! What can be wrong with a profile, said so that the reader can mend it.

use std::path::PathBuf;

/// A profile that cannot be used. Every variant names the profile, and the key and value where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Neither a built-in name nor a readable file.
    #[error(
        "profile `{name}`: not built in ({known}) and not a file that exists; give one of these names or the path of a .toml file"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// The built-in names, comma separated.
        known: String,
    },
    /// The file exists and cannot be read.
    #[error("profile {}: {source}; check that it is a readable text file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Larger than [`crate::raw::MAX_PROFILE_BYTES`].
    #[error("profile `{name}`: {bytes} bytes, more than the {limit} allowed; is this the right file?")]
    TooLarge {
        /// The profile.
        name: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not TOML, a key that does not exist, or a value of the wrong type; `message` carries line, key and what is allowed.
    #[error("profile `{name}`: {message}")]
    Syntax {
        /// The profile.
        name: String,
        /// The parser's words, on one line.
        message: String,
    },
    /// Profiles that inherit each other.
    #[error("profile `{name}`: inherits itself through {chain}; break the circle")]
    Circular {
        /// The profile.
        name: String,
        /// The chain, ` -> ` separated.
        chain: String,
    },
    /// A value outside what is allowed.
    #[error("profile `{name}`: {key} = {value}: {rule}")]
    Value {
        /// The profile.
        name: String,
        /// The key, as a dotted path.
        key: String,
        /// The value found.
        value: String,
        /// What is allowed.
        rule: String,
    },
    /// A key that must be given, here or in an inherited profile.
    #[error("profile `{name}`: key `{key}` is missing: {rule}")]
    Missing {
        /// The profile.
        name: String,
        /// The key, as a dotted path.
        key: String,
        /// What it should hold.
        rule: String,
    },
}
