//! Host calls that take long whatever they are given: the hashing of passwords.
//!
//! They run on blocking threads, so that nothing that serves waits for them. Only
//! some run at a time, and one of each plugin: who asks for many waits for its
//! own, and others hardly notice.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::chance;

pub struct SlowWork {
    permits: Arc<Semaphore>,
    /// One permit each, waited for before one of all.
    of_plugins: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Default for SlowWork {
    /// Half of the processors, so that the other half serves.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self { permits: Arc::new(Semaphore::new((processors / 2).max(1))), of_plugins: Mutex::default() }
    }
}

impl SlowWork {
    /// None where the host is going down, or the work has panicked. Work that has begun goes on if nobody
    /// waits for it any more, and holds its permits until it is done.
    pub async fn run<T: Send + 'static>(&self, plugin: &str, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let own = self.of_plugins.lock().entry(plugin.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
        let own = own.acquire_owned().await.ok()?;
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        chance::aside(move || {
            let _held = (own, permit);
            work()
        })
        .await
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_plugin_has_one_at_a_time_even_when_nobody_waits_for_it_any_more() {
        let slow = Arc::new(SlowWork { permits: Arc::new(Semaphore::new(2)), of_plugins: Mutex::default() });
        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let slow = slow.clone();
            async move {
                slow.run("p", move || {
                    begin.send(()).unwrap();
                    ended.recv().unwrap();
                })
                .await
            }
        });
        tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        first.abort();
        assert!(first.await.is_err());
        let mut second = std::pin::pin!(slow.run("p", || 2));
        assert!(futures_are_pending(&mut second).await);
        assert_eq!(slow.run("q", || 3).await, Some(3));
        assert!(futures_are_pending(&mut second).await);
        end.send(()).unwrap();
        assert_eq!(second.await, Some(2));
    }

    async fn futures_are_pending<T>(future: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
