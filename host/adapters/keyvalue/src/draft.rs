//! `wasi:keyvalue@0.2.0-draft`.

use crate::exports::wasi::keyvalue0_2_0_draft::store::{Bucket, BucketBorrow, Error, GuestBucket, KeyResponse};
use crate::exports::wasi::keyvalue0_2_0_draft::{atomics, batch, store};
use crate::{KEYS_MAX, KeyValue};

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

    /// The cursor is how many keys were listed before.
    fn list_keys(&self, cursor: Option<u64>) -> Result<KeyResponse, Error> {
        let page = u64::from(KEYS_MAX);
        let before = cursor.unwrap_or(0);
        let mut keys = self.keys(None).map_err(Error::Other)?;
        for _ in 0..before / page {
            let Some(last) = keys.pop() else { break };
            keys = self.keys(Some(last)).map_err(Error::Other)?;
        }
        let cursor = (keys.len() as u64 == page).then(|| before + page);
        Ok(KeyResponse { keys, cursor })
    }
}

impl atomics::Guest for KeyValue {
    fn increment(bucket: BucketBorrow<'_>, key: String, delta: u64) -> Result<u64, Error> {
        let sum = bucket.get::<crate::Bucket>().increment(&key, delta.into()).map_err(Error::Other)?;
        u64::try_from(sum).map_err(|_| Error::Other(format!("`{key}` is below zero")))
    }
}

impl batch::Guest for KeyValue {
    fn get_many(bucket: BucketBorrow<'_>, keys: Vec<String>) -> Result<Vec<Option<(String, Vec<u8>)>>, Error> {
        let values = bucket.get::<crate::Bucket>().get_many(&keys).map_err(Error::Other)?;
        Ok(keys.into_iter().zip(values).map(|(key, value)| Some((key, value?))).collect())
    }

    fn set_many(bucket: BucketBorrow<'_>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        pairs.iter().try_for_each(|(key, value)| bucket.get::<crate::Bucket>().set(key, value)).map_err(Error::Other)
    }

    fn delete_many(bucket: BucketBorrow<'_>, keys: Vec<String>) -> Result<(), Error> {
        keys.iter().try_for_each(|key| bucket.get::<crate::Bucket>().delete(key)).map_err(Error::Other)
    }
}
