//! What the retailer can change.

use souk_sdk::config;

config! {
    /// How long an order waits for its payment, and how much unpaid orders may hold. 0 is no limit.
    pub struct Settings {
        /// After so long an unpaid order is given up, however often its payment is tried again.
        unpaid_minutes_max: u32 = 90, in 30..=10080;
        /// Whether shoppers may cancel a paid order that is not sent yet.
        shopper_cancels_paid: bool = true;
        orders_per_session_max: u32 = 5;
        orders_per_email_max: u32 = 10;
        /// An office shares one address: it is one network.
        orders_per_network_max: u32 = 40;
        units_per_session_max: u32 = 300;
        units_per_email_max: u32 = 300;
        units_per_network_max: u32 = 400;
        /// So many orders may be drafted and given up unpaid in an hour.
        given_up_per_session_max: u32 = 20;
        given_up_per_network_max: u32 = 100;
        /// So many orders that cost nothing may be placed in a day.
        free_orders_per_session_max: u32 = 5;
        free_orders_per_network_max: u32 = 40;
        /// What a plugin drafts without saying for whom.
        orders_per_plugin_max: u32 = 200;
        units_per_plugin_max: u32 = 1000;
        /// A /48 of version 6 may hold as much as so many networks.
        networks_per_site_max: u32 = 4, in 0..=65536;
        /// So many skus, counted once an order, may unpaid orders of one network hold.
        skus_per_network_max: u32 = 100;
        /// Of what there is of a sku, so much may be held by unpaid orders of one network; 100 is no limit.
        sku_percent_per_network_max: u32 = 50, in 1..=100;
        /// So much of a sku may be held over that share as well, for the last pieces are sold like any others,
        sku_units_per_network_min: u32 = 20, in 1..=1000000;
        /// but of no more skus than this.
        skus_over_share_per_network_max: u32 = 10;
    }
}

impl Settings {
    pub fn of_site(&self, most: u32) -> u32 {
        most.saturating_mul(self.networks_per_site_max)
    }
}
