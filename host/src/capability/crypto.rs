//! Cryptography with keys that never enter a guest.
//!
//! One random master key lies in the store's `keys/` folder; every named key of
//! a plugin is derived from it, so that a backup of one file keeps them all.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Argon2, Params, RECOMMENDED_SALT_LEN};
use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::crypto::Host;
use crate::engine::bindings::souk::host::crypto::Error;
use crate::store::Store;
use crate::work::keys::KEY_FINGERPRINT;

const NAME_BYTES_MAX: usize = 64;
const PASSWORD_BYTES_MAX: usize = 1_024;
/// A PHC string of Argon2 has some hundred.
const HASH_BYTES_MAX: usize = 512;
const NONCE_BYTES: usize = 24;

/// In the keys' folder: the operator wants a new key.
const ANEW: &str = "anew";

pub fn known_fingerprint(store: &Store) -> anyhow::Result<Option<Bytes>> {
    Ok(store.begin().get(KEY_FINGERPRINT)?)
}

pub struct Keyring {
    master: [u8; 32],
}

#[derive(Clone, Copy)]
enum Purpose {
    Mac,
    Sign,
    Seal,
}

impl Keyring {
    /// `known` is the fingerprint of the key that the store was used with. Another key, or a new one, would end all
    /// sessions and make what is sealed unreadable: only the operator can want that.
    pub fn open(folder: &Path, known: Option<&[u8]>) -> anyhow::Result<Self> {
        let (path, anew) = (folder.join("master"), folder.join(ANEW));
        if anew.exists() {
            std::fs::remove_file(&path).or_else(|error| if path.exists() { Err(error) } else { Ok(()) }).with_context(|| path.display().to_string())?;
            let keyring = Self::open(folder, None)?;
            std::fs::remove_file(&anew).with_context(|| anew.display().to_string())?;
            return Ok(keyring);
        }
        let remedy = || format!("Restore it from a backup. To begin with a new key instead, which ends all sessions and loses sealed data, make the empty file {}", anew.display());
        ensure!(known.is_none() || path.exists(), "{} is gone. {}", path.display(), remedy());
        let keyring = Self::read_or_make(folder, &path)?;
        ensure!(known.is_none_or(|known| known == keyring.fingerprint()), "{} is not the key that this store was used with. {}", path.display(), remedy());
        Ok(keyring)
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.host_key("fingerprint")
    }

    /// For the next start to tell whether the key is still the same.
    pub async fn keep_fingerprint(&self, store: &Store) -> anyhow::Result<()> {
        let mut txn = store.begin();
        if txn.get(KEY_FINGERPRINT)?.as_deref() != Some(&self.fingerprint()) {
            txn.put(KEY_FINGERPRINT, self.fingerprint().to_vec());
            store.commit(txn).await?;
        }
        Ok(())
    }

    fn read_or_make(folder: &Path, path: &Path) -> anyhow::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => {
                if std::fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
                    bail!("{}: others may read it. Run: chmod 600 {0}", path.display());
                }
                let master = bytes.try_into().ok().with_context(|| {
                    format!("{}: it should hold 32 bytes. Restore it from a backup: without it, sessions and sealed data are lost.", path.display())
                })?;
                Ok(Self { master })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                let mut master = [0; 32];
                getrandom::fill(&mut master).context("no randomness from the operating system")?;
                // Named files of `tempfile` are 0600. Durable before first use.
                let mut file = tempfile::NamedTempFile::new_in(folder)?;
                file.write_all(&master)?;
                file.as_file().sync_all()?;
                file.persist(path)?;
                File::open(folder)?.sync_all()?;
                Ok(Self { master })
            }
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// A key of the host itself: no plugin's name has a colon.
    pub fn host_key(&self, name: &str) -> [u8; 32] {
        self.derive("host:", name, Purpose::Mac)
    }

    fn derive(&self, owner: &str, name: &str, purpose: Purpose) -> [u8; 32] {
        let purpose: &[u8] = match purpose {
            Purpose::Mac => b"mac",
            Purpose::Sign => b"sign",
            Purpose::Seal => b"seal",
        };
        let mut mac = keyed(&self.master);
        for part in [b"souk key 1", purpose, owner.as_bytes(), name.as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn mac(&self, owner: &str, name: &str, data: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.derive(owner, name, Purpose::Mac), data)
    }

    fn signing_key(&self, owner: &str, name: &str) -> SigningKey {
        SigningKey::from_bytes(&self.derive(owner, name, Purpose::Sign))
    }

    fn seal(&self, owner: &str, name: &str, nonce: [u8; NONCE_BYTES], context: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        let cipher = XChaCha20Poly1305::new(&self.derive(owner, name, Purpose::Seal).into());
        let sealed = cipher.encrypt(&XNonce::from(nonce), Payload { msg: data, aad: context }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    fn open_sealed(&self, owner: &str, name: &str, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_BYTES)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let cipher = XChaCha20Poly1305::new(&self.derive(owner, name, Purpose::Seal).into());
        cipher.decrypt(&XNonce::from(nonce), Payload { msg: body, aad: context }).ok()
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length")
}

pub fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn verify(public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<bool, Error> {
    let public_key: &[u8; 32] = public_key.try_into().map_err(|_| Error::Invalid("a public key has 32 bytes".into()))?;
    let signature: &[u8; 64] = signature.try_into().map_err(|_| Error::Invalid("a signature has 64 bytes".into()))?;
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| Error::Invalid("not an Ed25519 public key".into()))?;
    Ok(key.verify_strict(data, &Signature::from_bytes(signature)).is_ok())
}

fn key_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::Invalid(format!("a key's name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn check_password(password: &str) -> Result<(), Error> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Error::Invalid(format!("a password has at most {PASSWORD_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// A hash that costs no more to verify than one of ours: whoever wrote it chose that, and it is paid here.
fn affordable(hash: &str) -> Result<PasswordHash, Error> {
    let not_a_hash = |reason: String| Error::Invalid(format!("not a password hash: {reason}"));
    if hash.len() > HASH_BYTES_MAX {
        return Err(not_a_hash(format!("it has {} bytes; at most {HASH_BYTES_MAX}", hash.len())));
    }
    let hash = PasswordHash::new(hash).map_err(|error| not_a_hash(error.to_string()))?;
    let asked = Params::try_from(&hash).map_err(|error| not_a_hash(error.to_string()))?;
    let ours = Params::default();
    if asked.m_cost() > ours.m_cost() || asked.t_cost() > ours.t_cost() || asked.p_cost() > ours.p_cost() {
        return Err(Error::Invalid(format!(
            "the hash asks for m={},t={},p={}; at most m={},t={},p={}, which `hash-password` takes",
            asked.m_cost(),
            asked.t_cost(),
            asked.p_cost(),
            ours.m_cost(),
            ours.t_cost(),
            ours.p_cost()
        )));
    }
    Ok(hash)
}

fn not_done() -> Error {
    Error::Invalid("it could not be computed now".into())
}

impl Host for GuestState {
    fn digest(&mut self, _: Caller, data: Vec<u8>) -> Vec<u8> {
        Sha256::digest(&data).to_vec()
    }

    fn mac(&mut self, caller: Caller, key: String, data: Vec<u8>) -> Result<Vec<u8>, Error> {
        key_name(&key)?;
        Ok(self.services.keys.mac(caller.name(), &key, &data).to_vec())
    }

    fn verify_mac(&mut self, caller: Caller, key: String, data: Vec<u8>, mac: Vec<u8>) -> Result<bool, Error> {
        key_name(&key)?;
        Ok(self.services.keys.mac(caller.name(), &key, &data)[..].ct_eq(&mac).into())
    }

    fn secret_mac(&mut self, caller: Caller, secret: String, data: Vec<u8>) -> Result<Vec<u8>, Error> {
        let value = self.services.secrets.get(&caller, &secret).ok_or_else(|| {
            Error::Invalid(format!("no secret `{secret}`: put it into secrets.toml and list it in the manifest under `secrets`"))
        })?;
        Ok(hmac_sha256(value.as_bytes(), &data).to_vec())
    }

    fn sign(&mut self, caller: Caller, key: String, data: Vec<u8>) -> Result<Vec<u8>, Error> {
        key_name(&key)?;
        Ok(self.services.keys.signing_key(caller.name(), &key).sign(&data).to_bytes().to_vec())
    }

    fn public_key(&mut self, caller: Caller, key: String) -> Result<Vec<u8>, Error> {
        key_name(&key)?;
        Ok(self.services.keys.signing_key(caller.name(), &key).verifying_key().to_bytes().to_vec())
    }

    fn verify(&mut self, _: Caller, public_key: Vec<u8>, data: Vec<u8>, signature: Vec<u8>) -> Result<bool, Error> {
        verify(&public_key, &data, &signature)
    }

    fn seal(&mut self, caller: Caller, key: String, context: Vec<u8>, data: Vec<u8>) -> Result<Vec<u8>, Error> {
        key_name(&key)?;
        let nonce = self.unit.lock().chance.bytes();
        self.services.keys.seal(caller.name(), &key, nonce, &context, &data).ok_or_else(|| Error::Invalid("too much data to seal".into()))
    }

    fn open(&mut self, caller: Caller, key: String, context: Vec<u8>, sealed: Vec<u8>) -> Result<Vec<u8>, Error> {
        key_name(&key)?;
        self.services.keys.open_sealed(caller.name(), &key, &context, &sealed).ok_or(Error::NotAuthentic)
    }

    async fn hash_password(&mut self, caller: Caller, password: String) -> Result<String, Error> {
        check_password(&password)?;
        let salt = self.unit.lock().chance.bytes::<RECOMMENDED_SALT_LEN>();
        let hashed = self.slowly(&caller, move || Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).map(|hash| hash.to_string()));
        hashed.await.ok_or_else(not_done)?.map_err(|error| Error::Invalid(error.to_string()))
    }

    async fn verify_password(&mut self, caller: Caller, password: String, hash: String) -> Result<bool, Error> {
        check_password(&password)?;
        let hash = affordable(&hash)?;
        let verified = self.slowly(&caller, move || Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        verified.await.ok_or_else(not_done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_a_restart_and_differ_by_owner_name_and_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let first = Keyring::open(folder.path(), None).unwrap();
        let again = Keyring::open(folder.path(), None).unwrap();
        assert_eq!(first.mac("a", "k", b"x"), again.mac("a", "k", b"x"));
        assert_ne!(first.mac("a", "k", b"x"), first.mac("b", "k", b"x"));
        assert_ne!(first.mac("a", "k", b"x"), first.mac("a", "l", b"x"));
        assert_ne!(first.mac("ab", "c", b"x"), first.mac("a", "bc", b"x"));
        assert_ne!(first.derive("a", "k", Purpose::Seal), first.derive("a", "k", Purpose::Mac));
    }

    #[test]
    fn sealed_data_opens_only_unchanged_under_its_key_and_context() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keyring::open(folder.path(), None).unwrap();
        let sealed = keys.seal("a", "k", [7; NONCE_BYTES], b"order 1", b"secret").unwrap();
        assert_eq!(keys.open_sealed("a", "k", b"order 1", &sealed).unwrap(), b"secret");
        assert!(keys.open_sealed("b", "k", b"order 1", &sealed).is_none());
        assert!(keys.open_sealed("a", "k", b"order 2", &sealed).is_none());
        assert!(keys.open_sealed("a", "k", b"order 1", b"short").is_none());
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1;
            assert!(keys.open_sealed("a", "k", b"order 1", &changed).is_none(), "byte {byte}");
        }
    }

    #[test]
    fn signatures_verify_with_the_public_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let key = Keyring::open(folder.path(), None).unwrap().signing_key("a", "k");
        let (signature, public) = (key.sign(b"x").to_bytes(), key.verifying_key().to_bytes());
        assert!(verify(&public, b"x", &signature).unwrap());
        assert!(!verify(&public, b"y", &signature).unwrap());
        assert!(verify(b"short", b"x", &signature).is_err());
    }

    #[test]
    fn a_hash_that_costs_more_than_ours_is_refused_before_anything_is_computed() {
        let hash = |parameters: &str| format!("$argon2id$v=19${parameters}$c29tZXNhbHRzb21lc2FsdA$gWVpqoxMqkvU7Q5VpPuxfY3DLMUkZXpUNEDiYkNf7rY");
        for (parameters, is_affordable) in [
            ("m=19456,t=2,p=1", true),
            ("m=4096,t=1,p=1", true),
            ("m=19457,t=2,p=1", false),
            ("m=19456,t=3,p=1", false),
            ("m=19456,t=2,p=2", false),
            ("m=4294967295,t=2,p=1", false),
            ("m=8,t=4294967295,p=1", false),
            ("m=134217720,t=1,p=16777215", false),
        ] {
            assert_eq!(affordable(&hash(parameters)).is_ok(), is_affordable, "{parameters}");
        }
        assert!(affordable(&format!("$argon2id${}", "a".repeat(1_000))).is_err());
        assert!(affordable("$scrypt$ln=31,r=8,p=1$c29tZXNhbHQ$aaaa").is_err());
        let own = Argon2::default().hash_password_with_salt(b"secret", b"somesaltsomesalt").unwrap().to_string();
        assert!(affordable(&own).is_ok());
    }

    #[test]
    fn a_master_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Keyring::open(folder.path(), None).unwrap();
        let path = folder.path().join("master");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Keyring::open(folder.path(), None).is_err());
    }
}
