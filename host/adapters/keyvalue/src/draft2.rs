//! `wasi:keyvalue@0.2.0-draft2`.

use crate::KeyValue;
use crate::exports::wasi::keyvalue0_2_0_draft2::atomics::{Cas, CasError, GuestCas};
use crate::exports::wasi::keyvalue0_2_0_draft2::store::{Bucket, BucketBorrow, Error, GuestBucket, KeyResponse};
use crate::exports::wasi::keyvalue0_2_0_draft2::{atomics, batch, store};

impl store::Guest for KeyValue {
    type Bucket = crate::Bucket;

    fn open(identifier: String) -> Result<Bucket, Error> {
        crate::Bucket::open(identifier).map(Bucket::new).map_err(Error::Other)
    }
}

impl GuestBucket for crate::Bucket {
    fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        self.get(&key).map_err(Error::Other)
    }

    fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.set(&key, &value).map_err(Error::Other)
    }

    fn delete(&self, key: String) -> Result<(), Error> {
        self.delete(&key).map_err(Error::Other)
    }

    fn exists(&self, key: String) -> Result<bool, Error> {
        self.get(&key).map(|value| value.is_some()).map_err(Error::Other)
    }

    /// The cursor is the last key that was listed.
    fn list_keys(&self, cursor: Option<String>) -> Result<KeyResponse, Error> {
        let keys = self.keys(cursor).map_err(Error::Other)?;
        let cursor = keys.last().filter(|_| keys.len() == crate::KEYS_MAX as usize).cloned();
        Ok(KeyResponse { keys, cursor })
    }
}

/// What a key held when it was looked at.
pub struct Seen {
    bucket: crate::Bucket,
    key: String,
    value: Option<Vec<u8>>,
}

impl Seen {
    fn look(bucket: crate::Bucket, key: String) -> Result<Self, Error> {
        let value = bucket.get(&key).map_err(Error::Other)?;
        Ok(Self { bucket, key, value })
    }
}

impl GuestCas for Seen {
    fn new(bucket: BucketBorrow<'_>, key: String) -> Result<Cas, Error> {
        Self::look(bucket.get::<crate::Bucket>().clone(), key).map(Cas::new)
    }

    fn current(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.value.clone())
    }
}

impl atomics::Guest for KeyValue {
    type Cas = Seen;

    fn increment(bucket: BucketBorrow<'_>, key: String, delta: i64) -> Result<i64, Error> {
        bucket.get::<crate::Bucket>().increment(&key, delta.into()).map_err(Error::Other)
    }

    /// Units run one after the other: it is only the unit's own writes that can
    /// have come between.
    fn swap(cas: Cas, value: Vec<u8>) -> Result<(), CasError> {
        let seen = cas.into_inner::<Seen>();
        let now = Seen::look(seen.bucket, seen.key).map_err(CasError::StoreError)?;
        if now.value != seen.value {
            return Err(CasError::CasFailed(Cas::new(now)));
        }
        now.bucket.set(&now.key, &value).map_err(|error| CasError::StoreError(Error::Other(error)))
    }
}

impl batch::Guest for KeyValue {
    fn get_many(bucket: BucketBorrow<'_>, keys: Vec<String>) -> Result<Vec<(String, Option<Vec<u8>>)>, Error> {
        let values = bucket.get::<crate::Bucket>().get_many(&keys).map_err(Error::Other)?;
        Ok(keys.into_iter().zip(values).collect())
    }

    fn set_many(bucket: BucketBorrow<'_>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        pairs.iter().try_for_each(|(key, value)| bucket.get::<crate::Bucket>().set(key, value)).map_err(Error::Other)
    }

    fn delete_many(bucket: BucketBorrow<'_>, keys: Vec<String>) -> Result<(), Error> {
        keys.iter().try_for_each(|key| bucket.get::<crate::Bucket>().delete(key)).map_err(Error::Other)
    }
}
