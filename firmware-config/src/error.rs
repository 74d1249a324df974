//! What can be wrong with a profile, said so that the reader can mend it.

use std::path::PathBuf;

/// Where in a profile: a built-in name or a file, and the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Built-in name or path.
    pub file: String,
    /// Counted from 1; `None` where no one line can be named.
    pub line: Option<usize>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{} line {line}", self.file),
            None => formatter.write_str(&self.file),
        }
    }
}

/// A profile that cannot be used. Every variant names the profile, and line, key and value where there are such.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Neither a built-in name nor a readable file.
    #[error(
        "profile `{name}`{by}: not built in ({known}) and not a file that exists{hint}; give one of these names or the path of a .toml file"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// Who inherits it, in words; empty where the user named it.
        by: String,
        /// The built-in names, comma separated.
        known: String,
        /// `: did you mean ...?`, or nothing.
        hint: String,
    },
    /// The file exists and cannot be read.
    #[error("profile {}: {source}; check that it is a readable text file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Larger than a profile can be.
    #[error("profile `{name}`: {bytes} bytes, more than the {limit} allowed; is this the right file?")]
    TooLarge {
        /// The profile.
        name: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not TOML.
    #[error("profile {place}: `{quoted}`: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// The text there, as far as one line.
        quoted: String,
        /// The parser's words, on one line.
        message: String,
    },
    /// Profiles that inherit each other.
    #[error("profile `{name}`: inherits through {chain}: a circle, or more than 8 profiles; break or shorten it")]
    Circular {
        /// The profile.
        name: String,
        /// The chain, ` -> ` separated.
        chain: String,
    },
    /// A key that does not exist, or a value outside what is allowed or at odds with another.
    #[error("profile {place}: {key} = {value}: {rule}")]
    Value {
        /// Where.
        place: Place,
        /// The key, as a dotted path.
        key: String,
        /// The value found.
        value: String,
        /// What is allowed.
        rule: String,
    },
    /// A key that must be given, here or in an inherited profile.
    #[error("profile {place}: key `{key}` is missing: {rule}")]
    Missing {
        /// Where.
        place: Place,
        /// The key, as a dotted path.
        key: String,
        /// What it should hold.
        rule: String,
    },
}
