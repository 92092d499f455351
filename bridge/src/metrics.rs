//! What the bridge counts, and the bank's figures as Prometheus takes them. Money is in paise, whole numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use protocol::Total;
use serde_json::Value;

use crate::bank::View;

type Labels<const N: usize> = [(&'static str, String); N];

/// Counters of the bridge itself.
pub struct Metrics {
    requests: Family<Labels<3>, Counter>,
    /// Streams of events that are open.
    pub event_streams: Arc<AtomicI64>,
    /// Connections that are open.
    pub connections: Arc<AtomicI64>,
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self { requests: Family::default(), event_streams: Arc::default(), connections: Arc::default() }
    }

    /// A request was answered. `path` is the router's, so its number is bounded whatever is asked for.
    pub fn answered(&self, method: &Method, path: Option<&str>, status: StatusCode) {
        let method = match *method {
            Method::GET | Method::HEAD | Method::POST | Method::DELETE => method.to_string(),
            _ => "other".to_string(),
        };
        let path = path.unwrap_or("none").to_string();
        let labels = [("method", method), ("path", path), ("status", status.as_str().to_string())];
        self.requests.get_or_create(&labels).inc();
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a value can't be written.
    pub fn text(&self, view: &View) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("bank");
        registry.register("bridge_requests", "Requests that the bridge answered", self.requests.clone());
        let gauge = |registry: &mut Registry, name: &str, help: &str, value: i64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        };
        let streams = self.event_streams.load(Ordering::Relaxed);
        gauge(&mut registry, "bridge_event_streams", "Streams of events that are open", streams);
        let connections = self.connections.load(Ordering::Relaxed);
        gauge(&mut registry, "bridge_connections", "Connections that are open", connections);
        let verdict = view.verdict.ok.map_or(-1, i64::from);
        gauge(&mut registry, "audit_ok", "1 the books are right, 0 they are not, -1 not known", verdict);
        gauge(&mut registry, "in_transit_paise", "Money between the branches", paise(view.totals.in_transit));
        gauge(&mut registry, "money_paise", "Money in all branches and between them", paise(view.totals.money));
        gauge(&mut registry, "paid_in_paise", "Money paid in", paise(view.totals.paid_in));
        gauge(&mut registry, "paid_out_paise", "Money paid out", paise(view.totals.paid_out));
        branch_gauges(&mut registry, view);
        replica_gauges(&mut registry, view);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn branch_gauges(registry: &mut Registry, view: &View) {
    type Figure = fn(&crate::bank::Card) -> Option<i64>;
    let figures: [(&str, &str, Figure); 8] = [
        ("branch_up", "Whether the branch answers", |card| Some(i64::from(card.is_up()))),
        ("branch_balances_paise", "What its customers hold", |card| card.balances.map(paise)),
        ("branch_accounts", "Open accounts", |card| count(card.accounts)),
        ("branch_in_doubt", "Transfers in doubt", |card| count(card.in_doubt)),
        ("branch_undelivered", "Decisions not delivered", |card| count(card.undelivered)),
        ("branch_transactions", "Rows of transactions", |card| count(card.transactions)),
        ("branch_clients", "Connected clients", |card| count(card.clients)),
        ("branch_epoch", "Promotions in its place, and one", |card| card.epoch.as_ref()?.as_i64()),
    ];
    for (name, help, figure) in figures {
        let family: Family<Labels<1>, Gauge> = Family::default();
        for card in &view.branches {
            if let Some(value) = figure(card) {
                family.get_or_create(&[("branch", card.name.clone())]).set(value);
            }
        }
        registry.register(name, help, family);
    }
}

/// How far each replica is behind, by its branch and its address.
fn replica_gauges(registry: &mut Registry, view: &View) {
    for (name, help, field) in [
        ("replica_lag_groups", "Group commits that the replica has not made durable", "sequence"),
        ("replica_lag_seconds", "For how long the replica has been behind", "seconds"),
    ] {
        let family: Family<Labels<2>, Gauge> = Family::default();
        for card in &view.branches {
            for replica in &card.replicas {
                let address = replica.get("address").and_then(Value::as_str);
                let lag = replica.get("lag").and_then(|lag| lag.get(field)).and_then(Value::as_i64);
                if let (Some(address), Some(lag)) = (address, lag) {
                    family.get_or_create(&[("branch", card.name.clone()), ("replica", address.to_string())]).set(lag);
                }
            }
        }
        registry.register(name, help, family);
    }
}

fn count(value: Option<u64>) -> Option<i64> {
    value.and_then(|value| i64::try_from(value).ok())
}

/// More paise than fit are the most that do.
fn paise(total: Total) -> i64 {
    i64::try_from(total.paise()).unwrap_or(if total < Total::ZERO { i64::MIN } else { i64::MAX })
}
