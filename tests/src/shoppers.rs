//! Honest shoppers, for tests that do something else to the shop meanwhile: it
//! must not be felt by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::api::Api;
use crate::{Shop, client};

/// Shoppers who look, fill carts and buy until they are told to stop.
pub struct Shoppers {
    done: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    loops: Vec<tokio::task::JoinHandle<()>>,
}

impl Shoppers {
    pub const COUNT: u64 = 4;

    pub async fn enter(shop: &Shop) -> Self {
        let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (sku, price) = Api::of(shop).buyable(3).await;
        let loops = (0..Self::COUNT)
            .map(|_| {
                let (api, client, url, sku) = (Api::of(shop), client(), shop.url.clone(), sku.clone());
                let (done, served) = (done.clone(), served.clone());
                tokio::spawn(async move {
                    while !done.load(Relaxed) {
                        assert_eq!(client.get(format!("{url}/en/products")).send().await.unwrap().status(), 200);
                        let (_, cart) = api.cart(&sku, 2).await.unwrap();
                        let amount = |field: &str| cart["totals"][field]["amount"].as_i64().unwrap();
                        assert_eq!(amount("subtotal"), price * 2, "{cart}");
                        assert_eq!(amount("total"), amount("subtotal") - amount("discount") + amount("shipping") + amount("tax_added"), "{cart}");
                        served.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        Self { done, served, loops }
    }

    /// Waits until they have filled so many carts.
    pub async fn until_served(&self, carts: u64) {
        while self.served.load(Relaxed) < carts {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Panics where one of them was not served.
    pub async fn leave(self) {
        self.done.store(true, Relaxed);
        for shopper in self.loops {
            shopper.await.unwrap();
        }
        assert!(self.served.load(Relaxed) > 0);
    }
}
