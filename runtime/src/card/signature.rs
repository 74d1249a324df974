//! Signatures of cards: ed25519 (RFC 8032) over the bytes of the card file, in `<model>.card.sig` beside it. A card names its
//! model by sha256, so that who signs the card signs the model.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ed25519_compact::{KeyPair, PublicKey, Seed, Signature};
use serde::{Deserialize, Serialize};

use super::{MAX_CARD_BYTES, ModelCard};
use crate::error::RuntimeError;
use crate::files::{hex, read_limited, write_atomically};

/// A signature or a key is a few lines.
const MAX_FILE_BYTES: u64 = 4096;
const SECRET_KEY_HEAD: &str = "foresee-ed25519-secret";
const PUBLIC_KEY_HEAD: &str = "foresee-ed25519-public";

/// Who may sign the models that are served here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Empty: unsigned models are served as well; a signature that is there must still be right.
    pub keys: Vec<VerifyingKey>,
}

/// What `<model>.card.sig` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardSignature {
    /// Hex of the 32-byte public key.
    pub public_key: String,
    /// Hex of the 64-byte signature over the card file's bytes.
    pub signature: String,
}

/// A public key, in text `foresee-ed25519-public <64 hex digits>` or the digits alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

/// A secret key. It is neither printed nor compared.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// A key from the system's random numbers.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when the system gives none.
    pub fn generate() -> Result<Self, RuntimeError> {
        let path = PathBuf::from("/dev/urandom");
        let mut seed = [0_u8; 32];
        let read = std::fs::File::open(&path).and_then(|mut file| file.read_exact(&mut seed));
        read.map_err(|source| RuntimeError::File { path, source })?;
        Ok(Self(KeyPair::from_seed(Seed::new(seed))))
    }

    /// Reads what [`SigningKey::save`] wrote.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when it cannot be read or is no secret key.
    pub fn load(path: &Path) -> Result<Self, RuntimeError> {
        let seed = read_key(path, SECRET_KEY_HEAD, "a secret key of `foresee card keygen`")?;
        Ok(Self(KeyPair::from_seed(Seed::new(seed))))
    }

    /// Writes the secret key to `path`, for its owner alone, and the public one beside it as `<stem>.pub`, whose path it gives.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when one cannot be written or is there already: a key is never written over.
    pub fn save(&self, path: &Path) -> Result<PathBuf, RuntimeError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;

        let public_path = path.with_extension("pub");
        let write = |path: &Path, mode: u32, text: String| {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
                .map_err(|source| RuntimeError::File { path: path.to_path_buf(), source })
        };
        write(path, 0o600, format!("{SECRET_KEY_HEAD} {}\n", hex(&*self.0.sk.seed())))?;
        write(&public_path, 0o644, format!("{PUBLIC_KEY_HEAD} {}\n", hex(&*self.0.pk)))?;
        Ok(public_path)
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(*self.0.pk)
    }

    /// Signs the card of `model` as it lies on disk; gives the path of the signature.
    ///
    /// # Errors
    /// As [`ModelCard::load`]; [`RuntimeError::File`] when the signature cannot be written.
    pub fn sign(&self, model: &Path) -> Result<PathBuf, RuntimeError> {
        ModelCard::load(model)?;
        let bytes = read_limited(&ModelCard::path_of(model), MAX_CARD_BYTES)?;
        let signature = CardSignature { public_key: hex(&*self.0.pk), signature: hex(&*self.0.sk.sign(&bytes, None)) };
        let path = CardSignature::path_of(model);
        let text = serde_json::to_string_pretty(&signature)
            .map_err(|error| RuntimeError::Card { path: path.clone(), problem: error.to_string() })?;
        write_atomically(&path, format!("{text}\n").as_bytes())?;
        Ok(path)
    }
}

impl VerifyingKey {
    /// Reads the text of a key, or the file of that name.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when it is neither.
    pub fn parse(text: &str) -> Result<Self, RuntimeError> {
        if let Some(key) = bytes_of_hex(text) {
            return Ok(Self(key));
        }
        read_key(Path::new(text), PUBLIC_KEY_HEAD, "64 hex digits, or a .pub file of `foresee card keygen`").map(Self)
    }

    /// Hex.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }
}

impl CardSignature {
    /// Where the signature of a model's card lies: `<stem>.card.sig` beside it.
    pub fn path_of(model: &Path) -> PathBuf {
        model.with_extension("card.sig")
    }
}

impl Trust {
    /// Whether the card of `model`, whose bytes are given, may be served; gives the hex of the key that signed it, if one did.
    pub(crate) fn check(&self, model: &Path, card_bytes: &[u8]) -> Result<Option<String>, RuntimeError> {
        let path = CardSignature::path_of(model);
        let refuse = |problem: String| RuntimeError::Card { path: path.clone(), problem };
        if !path.is_file() {
            if self.keys.is_empty() {
                return Ok(None);
            }
            return Err(refuse(format!(
                "there is no signature, and only models signed by a trusted key are served here; sign it with `foresee card sign {} --key FILE`",
                model.display()
            )));
        }
        let text = read_limited(&path, MAX_FILE_BYTES)?;
        let signature: CardSignature =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("not a signature: {error}; sign again")))?;
        let key: [u8; 32] = bytes_of_hex(&signature.public_key)
            .ok_or_else(|| refuse("`public_key` is not 64 hex digits; sign again".to_owned()))?;
        let bytes: [u8; 64] = bytes_of_hex(&signature.signature)
            .ok_or_else(|| refuse("`signature` is not 128 hex digits; sign again".to_owned()))?;
        if PublicKey::new(key).verify(card_bytes, &Signature::new(bytes)).is_err() {
            return Err(refuse(
                "is not the signature of this card: one of them was changed after signing; do not use the model, or sign again"
                    .to_owned(),
            ));
        }
        if !self.keys.is_empty() && !self.keys.contains(&VerifyingKey(key)) {
            return Err(refuse(format!("signed by {}, which is not among the trusted keys", hex(&key))));
        }
        Ok(Some(hex(&key)))
    }
}

fn read_key(path: &Path, head: &str, wanted: &str) -> Result<[u8; 32], RuntimeError> {
    let bytes = read_limited(path, MAX_FILE_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let key = text.trim().strip_prefix(head).and_then(|digits| bytes_of_hex(digits.trim()));
    key.ok_or_else(|| RuntimeError::File {
        path: path.to_path_buf(),
        source: std::io::Error::other(format!("not {wanted}")),
    })
}

fn bytes_of_hex<const COUNT: usize>(text: &str) -> Option<[u8; COUNT]> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.as_chunks::<2>().0.iter().filter_map(|[high, low]| u8::try_from(16 * high + low).ok()).collect();
    (digits.len() == 2 * COUNT).then(|| bytes.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::super::tests::saved_encoder_card;
    use super::*;

    #[test]
    fn a_signed_card_is_trusted_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let model = saved_encoder_card(folder.path());
        let bytes = std::fs::read(ModelCard::path_of(&model)).unwrap();
        let key = SigningKey::generate().unwrap();
        let (open, ours) = (Trust::default(), Trust { keys: vec![key.verifying_key()] });
        let theirs = Trust { keys: vec![SigningKey::generate().unwrap().verifying_key()] };
        let refusal = |trust: &Trust, bytes: &[u8]| trust.check(&model, bytes).unwrap_err().to_string();
        assert_eq!(open.check(&model, &bytes).unwrap(), None);
        assert!(refusal(&ours, &bytes).contains("no signature"));
        key.sign(&model).unwrap();
        assert_eq!(ours.check(&model, &bytes).unwrap(), Some(key.verifying_key().to_hex()));
        assert!(refusal(&theirs, &bytes).contains("not among the trusted keys"));
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        for trust in [&open, &ours] {
            assert!(refusal(trust, &changed).contains("not the signature of this card"));
        }
        std::fs::write(CardSignature::path_of(&model), "{}").unwrap();
        assert!(refusal(&open, &bytes).contains("not a signature"));
    }

    #[test]
    fn keys_are_kept_for_their_owner_and_never_written_over() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("robot.key");
        let key = SigningKey::generate().unwrap();
        let public_path = key.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::load(&path).unwrap().verifying_key(), key.verifying_key());
        assert_eq!(VerifyingKey::parse(&public_path.display().to_string()).unwrap(), key.verifying_key());
        assert_eq!(VerifyingKey::parse(&key.verifying_key().to_hex()).unwrap(), key.verifying_key());
        assert!(key.save(&path).is_err());
        assert!(SigningKey::load(&public_path).err().unwrap().to_string().contains("not a secret key"));
    }

    /// RFC 8032, 7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let seed = bytes_of_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let pair = KeyPair::from_seed(Seed::new(seed));
        assert_eq!(hex(&*pair.pk), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = hex(&*pair.sk.sign([0x72], None));
        assert!(signature.starts_with("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"));
    }
}
