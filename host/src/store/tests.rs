//! What every storage engine has to hold, run for each of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;

const KINDS: [EngineKind; 3] = [EngineKind::Fjall, EngineKind::Sled, EngineKind::Redb];

/// Runs `test` on a fresh store of each engine.
fn on_each(test: impl AsyncFn(&Store)) {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), kind).unwrap();
        runtime().block_on(test(&store));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn all() -> (Bound<&'static [u8]>, Bound<&'static [u8]>) {
    (Bound::Unbounded, Bound::Unbounded)
}

fn is_conflict<T>(result: Result<T, CommitError>) -> bool {
    matches!(result, Err(CommitError::Conflict { .. }))
}

#[test]
fn what_is_committed_is_there_after_reopening() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![7_u8; 100_000];
        {
            let store = Store::open(folder.path(), kind).unwrap();
            runtime().block_on(async {
                let mut txn = store.begin();
                txn.put(b"a", "1");
                txn.put(b"empty", "");
                txn.put(b"large", large.clone());
                txn.counter_add(b"n", 5, None).unwrap().unwrap();
                txn.append(b"log/", "first");
                store.commit(txn).await.unwrap();
                let mut txn = store.begin();
                txn.delete(b"a");
                txn.put(b"large", large[..10_000].to_vec());
                store.commit(txn).await.unwrap();
            });
        }
        let store = Store::open(folder.path(), kind).unwrap();
        let mut txn = store.begin();
        assert_eq!(txn.get(b"a").unwrap(), None);
        assert_eq!(txn.get(b"empty").unwrap().unwrap(), "");
        assert_eq!(txn.get(b"large").unwrap().unwrap(), large[..10_000]);
        assert_eq!(txn.counter_get(b"n").unwrap(), 5);
        assert_eq!(store.durable_seq(), 2);
        let log = txn.scan(Bound::Included(b"log/"), Bound::Excluded(b"log0"), 10, false).unwrap();
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].0[..12], [&b"log/"[..], &1_u64.to_be_bytes()].concat());
        store.verify().unwrap();
    }
}

#[test]
fn a_store_opens_only_with_the_engine_that_made_it_and_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), EngineKind::Fjall).unwrap();
    let error = Store::open(folder.path(), EngineKind::Sled).err().unwrap().to_string();
    assert!(error.contains("made by fjall"), "{error}");
    let error = Store::open(folder.path(), EngineKind::Fjall).err().unwrap().to_string();
    assert!(error.contains("another process"), "{error}");
    drop(store);
    Store::open(folder.path(), EngineKind::Fjall).unwrap();
}

#[test]
fn what_a_power_cut_left_half_made_is_made_again() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let half_made = folder.path().join(kind.name()).with_extension("new");
        fs::create_dir(&half_made).unwrap();
        fs::write(half_made.join("version"), "").unwrap();
        Store::open(folder.path(), kind).unwrap().verify().unwrap();
        assert!(!half_made.exists());
    }
}

#[test]
fn a_snapshot_does_not_move() {
    on_each(async |store| {
        let mut txn = store.begin();
        for n in 0..600 {
            txn.put(format!("k{n:03}").as_bytes(), "old");
        }
        store.commit(txn).await.unwrap();
        let mut before = store.begin();
        let mut txn = store.begin();
        for n in 0..600 {
            match n % 3 {
                0 => txn.delete(format!("k{n:03}").as_bytes()),
                1 => txn.put(format!("k{n:03}").as_bytes(), "new"),
                _ => txn.put(format!("x{n:03}").as_bytes(), "new"),
            }
        }
        store.commit(txn).await.unwrap();
        for reverse in [false, true] {
            let seen = before.scan(all().0, all().1, 10_000, reverse).unwrap();
            assert_eq!(seen.len(), 600);
            assert!(seen.iter().all(|(_, value)| value == "old"));
        }
        assert_eq!(before.get(b"k000").unwrap().unwrap(), "old");
        assert_eq!(store.begin().scan(all().0, all().1, 10_000, false).unwrap().len(), 600);
    });
}

#[test]
fn a_transaction_whose_reads_were_overwritten_conflicts() {
    on_each(async |store| {
        let mut reader = store.begin();
        reader.get(b"a").unwrap();
        reader.put(b"b", "1");
        let mut writer = store.begin();
        writer.put(b"a", "1");
        store.commit(writer).await.unwrap();
        assert!(is_conflict(store.commit(reader).await));
        assert_eq!(store.begin().get(b"b").unwrap(), None);
    });
}

#[test]
fn a_range_that_was_read_is_kept_free_of_phantoms() {
    on_each(async |store| {
        let mut first = store.begin();
        assert!(first.scan(Bound::Included(b"a"), Bound::Excluded(b"c"), 10, false).unwrap().is_empty());
        first.put(b"z", "1");
        let mut beside = store.begin();
        beside.scan(Bound::Included(b"a"), Bound::Excluded(b"b"), 10, false).unwrap();
        beside.put(b"y", "1");
        let mut writer = store.begin();
        writer.put(b"bb", "1");
        store.commit(writer).await.unwrap();
        assert!(is_conflict(store.commit(first).await));
        store.commit(beside).await.unwrap();
    });
}

#[test]
fn what_lies_behind_the_limit_of_a_scan_does_not_conflict() {
    on_each(async |store| {
        let mut txn = store.begin();
        ["a", "b", "c"].iter().for_each(|key| txn.put(key.as_bytes(), "1"));
        store.commit(txn).await.unwrap();
        let mut first_two = store.begin();
        first_two.scan(all().0, all().1, 2, false).unwrap();
        first_two.put(b"x", "1");
        let mut writer = store.begin();
        writer.put(b"c", "2");
        store.commit(writer).await.unwrap();
        store.commit(first_two).await.unwrap();
    });
}

#[test]
fn adds_to_one_counter_commute_and_keep_its_floor() {
    on_each(async |store| {
        let mut txn = store.begin();
        txn.counter_add(b"stock", 100, None).unwrap().unwrap();
        store.commit(txn).await.unwrap();
        let buyers: Vec<_> = (0..32)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut sold = 0;
                    loop {
                        let mut txn = store.begin();
                        if txn.counter_add(b"stock", -1, Some(0)).unwrap().is_err() {
                            return sold;
                        }
                        match store.commit(txn).await {
                            Ok(_) => sold += 1,
                            Err(CommitError::Conflict { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        let mut sold = 0;
        for buyer in buyers {
            sold += buyer.await.unwrap();
        }
        assert_eq!(sold, 100);
        assert_eq!(store.begin().counter_get(b"stock").unwrap(), 0);
    });
}

#[test]
fn a_counter_that_was_read_conflicts_with_adds() {
    on_each(async |store| {
        let mut reader = store.begin();
        reader.counter_get(b"n").unwrap();
        reader.put(b"seen", "0");
        let mut adder = store.begin();
        adder.counter_add(b"n", 1, None).unwrap().unwrap();
        store.commit(adder).await.unwrap();
        assert!(is_conflict(store.commit(reader).await));
    });
}

#[test]
fn concurrent_transfers_keep_the_sum() {
    const ACCOUNTS: usize = 8;
    on_each(async |store| {
        let mut txn = store.begin();
        (0..ACCOUNTS).for_each(|n| txn.put(&[n as u8], 100_i64.to_be_bytes().to_vec()));
        store.commit(txn).await.unwrap();
        let read = |value: Bytes| i64::from_be_bytes(value[..].try_into().unwrap());
        let workers: Vec<_> = (0..8_usize)
            .map(|worker| {
                let store = store.clone();
                tokio::spawn(async move {
                    for round in 0..40 {
                        let (from, to) = ((worker + round) % ACCOUNTS, (worker * 3 + round * 5 + 1) % ACCOUNTS);
                        loop {
                            let mut txn = store.begin();
                            // A reader of all must see the sum, whatever happens beside it.
                            let sum: i64 = txn.scan(Bound::Unbounded, Bound::Unbounded, 100, false).unwrap().into_iter().map(|(_, v)| read(v)).sum();
                            assert_eq!(sum, 100 * ACCOUNTS as i64);
                            let mut txn = store.begin();
                            let a = read(txn.get(&[from as u8]).unwrap().unwrap());
                            txn.put(&[from as u8], (a - 1).to_be_bytes().to_vec());
                            let b = read(txn.get(&[to as u8]).unwrap().unwrap());
                            txn.put(&[to as u8], (b + 1).to_be_bytes().to_vec());
                            if store.commit(txn).await.is_ok() {
                                break;
                            }
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        let sum: i64 = store.begin().scan(all().0, all().1, 100, false).unwrap().into_iter().map(|(_, v)| read(v)).sum();
        assert_eq!(sum, 100 * ACCOUNTS as i64);
    });
}

#[test]
fn a_backup_taken_while_commits_go_on_is_a_store_of_one_instant() {
    on_each(async |store| {
        let mut txn = store.begin();
        (0..1_000).for_each(|n| txn.put(format!("k{n:04}").as_bytes(), "1"));
        txn.counter_add(b"n", 3, None).unwrap().unwrap();
        store.commit(txn).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("copy");
        store.backup(&destination).unwrap();
        assert!(store.backup(&destination).is_err());
        let mut txn = store.begin();
        txn.put(b"later", "1");
        store.commit(txn).await.unwrap();
        let copy = Store::open(&destination, store.0.kind).unwrap();
        assert_eq!(copy.begin().scan(all().0, all().1, 10_000, false).unwrap().len(), 1_000);
        assert_eq!(copy.begin().counter_get(b"n").unwrap(), 3);
        assert_eq!(copy.durable_seq(), 1);
    });
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Scan { start: u8, end: u8, limit: usize, reverse: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..20_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        (0..20_u8).prop_map(Step::Delete),
        (0..20_u8, 0..22_u8, 1..8_usize, any::<bool>()).prop_map(|(start, end, limit, reverse)| Step::Scan { start, end, limit, reverse }),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Scans of committed documents and own writes equal those of a plain map.
    #[test]
    fn scans_equal_a_model(committed in steps(), own in steps()) {
        for kind in KINDS {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), kind).unwrap();
            let mut model: BTreeMap<Vec<u8>, Bytes> = BTreeMap::new();
            let mut txn = store.begin();
            run(&mut txn, &mut model, &committed);
            runtime().block_on(store.commit(txn)).unwrap();
            let mut txn = store.begin();
            run(&mut txn, &mut model, &own);
        }
    }
}

fn run(txn: &mut Txn, model: &mut BTreeMap<Vec<u8>, Bytes>, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Put(key, value) => {
                txn.put(&[*key], vec![*value]);
                model.insert(vec![*key], vec![*value].into());
            }
            Step::Delete(key) => {
                txn.delete(&[*key]);
                model.remove(&vec![*key]);
            }
            Step::Scan { start, end, limit, reverse } => {
                let found = txn.scan(Bound::Included(&[*start]), Bound::Excluded(&[*end]), *limit, *reverse).unwrap();
                let mut expected: Vec<_> = model.iter().filter(|(k, _)| k[0] >= *start && k[0] < *end).collect();
                if *reverse {
                    expected.reverse();
                }
                expected.truncate(*limit);
                let found: Vec<_> = found.iter().map(|(k, v)| (k.to_vec(), v.clone())).collect();
                let expected: Vec<_> = expected.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                assert_eq!(found, expected);
            }
        }
    }
}

/// Kills a writing process at random moments: each write that it has
/// acknowledged on its standard output is there, and none is half there.
#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    use std::io::BufRead;
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut acknowledged = 0_u64;
        for round in 0..10_u64 {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store::tests::writes_until_it_is_killed", "--nocapture"])
                .env("SOUK_TEST_KILL", format!("{}:{}", kind.name(), folder.path().display()))
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
            let enough = 20 + round * 7;
            let mut seen = 0;
            for line in lines.map_while(Result::ok) {
                if let Some(number) = line.strip_prefix("ack ") {
                    acknowledged = acknowledged.max(number.parse().unwrap());
                    seen += 1;
                    if seen == enough {
                        child.kill().unwrap();
                    }
                }
            }
            child.wait().unwrap();
            let store = Store::open(folder.path(), kind).unwrap();
            let mut txn = store.begin();
            let count = txn.counter_get(b"count").unwrap() as u64;
            assert!(count >= acknowledged, "{kind:?}: {count} of {acknowledged}");
            for part in ["a", "b"] {
                let prefix = format!("{part}/");
                let found = txn.scan(Bound::Included(prefix.as_bytes()), Bound::Excluded(format!("{part}0").as_bytes()), 1_000_000, false).unwrap();
                assert_eq!(found.len() as u64, count, "{kind:?}, {part}");
            }
            store.verify().unwrap();
        }
    }
}

/// Not a test by itself: the process that the one above kills.
#[test]
fn writes_until_it_is_killed() {
    use std::io::Write;
    let Ok(what) = std::env::var("SOUK_TEST_KILL") else { return };
    let (kind, folder) = what.split_once(':').unwrap();
    let store = Store::open(Path::new(folder), kind.parse().unwrap()).unwrap();
    runtime().block_on(async {
        let mut number = store.begin().counter_get(b"count").unwrap();
        loop {
            number += 1;
            let mut txn = store.begin();
            txn.put(format!("a/{number}").as_bytes(), vec![1; 500]);
            txn.put(format!("b/{number}").as_bytes(), vec![2; 5_000]);
            txn.counter_add(b"count", 1, None).unwrap().unwrap();
            store.commit(txn).await.unwrap();
            // One write: a line is there whole or not.
            std::io::stdout().write_all(format!("ack {number}\n").as_bytes()).unwrap();
        }
    });
}

/// Large enough that the engine has put most of it into tables.
#[test]
fn a_flipped_bit_in_a_table_is_told_or_does_no_harm() {
    const DOCUMENTS: u64 = 100;
    let document = |n: u64| {
        let mut value = vec![0; 1 << 20];
        blake3::Hasher::new().update(&n.to_be_bytes()).finalize_xof().fill(&mut value);
        value
    };
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("fjall/keyspaces/1/tables");
    let files = || -> Vec<_> { fs::read_dir(&tables).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let store = Store::open(folder.path(), EngineKind::Fjall).unwrap();
    runtime().block_on(async {
        for n in 0..DOCUMENTS {
            let mut txn = store.begin();
            txn.put(&n.to_be_bytes(), document(n));
            store.commit(txn).await.unwrap();
        }
    });
    for _ in 0..3_000 {
        if !files().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(store);
    let files = files();
    assert!(!files.is_empty(), "nothing is in tables yet");
    let (mut told, mut told_by_reading) = (0, 0);
    let is_told = |found: Result<(), StoreError>| u32::from(found.is_err_and(|error| error.0.contains("souk store restore")));
    let read = |store: &Store| -> Result<(), StoreError> {
        let mut txn = store.begin();
        for n in 0..DOCUMENTS {
            assert!(txn.get(&n.to_be_bytes())?.is_some_and(|value| value == document(n)), "another document, without a word");
        }
        Ok(())
    };
    for file in files {
        let whole = fs::read(&file).unwrap();
        for part in 0..12 {
            let mut damaged = whole.clone();
            damaged[(whole.len() - 1) * part / 11] ^= 1 << (part % 8);
            fs::write(&file, &damaged).unwrap();
            match Store::open(folder.path(), EngineKind::Fjall) {
                Ok(store) => {
                    // A shop reads; that it is not verified first must not matter.
                    told_by_reading += is_told(read(&store));
                    told += is_told(store.verify().map(|_| ()));
                }
                Err(error) => told += is_told(Err(error)),
            }
        }
        fs::write(&file, whole).unwrap();
    }
    assert!(told >= told_by_reading && told_by_reading > 0, "{told} told, {told_by_reading} found by reading");
    Store::open(folder.path(), EngineKind::Fjall).unwrap().verify().unwrap();
}

#[test]
fn a_store_that_has_lost_its_last_commits_does_not_open_as_if_nothing_was() {
    for kind in KINDS {
        let (folder, early) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let commit = |value: &'static str| {
            let store = Store::open(folder.path(), kind).unwrap();
            runtime().block_on(async {
                let mut txn = store.begin();
                txn.put(b"a", value);
                store.commit(txn).await.unwrap();
            });
            store.note_reached().unwrap();
        };
        commit("1");
        crate::files::copy_folder(&folder.path().join(kind.name()), early.path()).unwrap();
        commit("2");
        fs::remove_dir_all(folder.path().join(kind.name())).unwrap();
        crate::files::copy_folder(early.path(), &folder.path().join(kind.name())).unwrap();
        let error = Store::open(folder.path(), kind).err().unwrap().to_string();
        assert!(error.contains("ends at commit 1 and has been at 2") && error.contains("souk store restore"), "{error}");
        fs::remove_dir_all(folder.path().join(kind.name())).unwrap();
        let error = Store::open(folder.path(), kind).err().unwrap().to_string();
        assert!(error.contains("is gone"), "{error}");
    }
}
