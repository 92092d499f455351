//! What the bridge counts, and the bank's figures as Prometheus takes them. Money is in paise, whole numbers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

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

    /// Everything as text.
    ///
    /// # Errors
    /// When a value can't be written.
    pub fn text(&self, view: &View, format: Format) -> Result<String, std::fmt::Error> {
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
        money(&mut registry, "in_transit_paise", "Money between the branches", view.totals.in_transit);
        money(&mut registry, "money_paise", "Money in all branches and between them", view.totals.money);
        money(&mut registry, "paid_in_paise", "Money paid in", view.totals.paid_in);
        money(&mut registry, "paid_out_paise", "Money paid out", view.totals.paid_out);
        branch_gauges(&mut registry, view);
        replica_gauges(&mut registry, view);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Prometheus => older(&text),
        })
    }
}

/// How the figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, which everything reads.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that an `Accept` prefers; the older one where it says nothing of either.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let mut wanted = [0.0_f32; 2];
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0_f32);
            match kind.as_str() {
                "application/openmetrics-text" => wanted[1] = wanted[1].max(weight),
                "text/plain" | "text/*" | "*/*" => wanted[0] = wanted[0].max(weight),
                _ => {}
            }
        }
        // At the same weight, as of a Prometheus that takes both, the newer one.
        if wanted[1] > 0.0 && wanted[1] >= wanted[0] { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its name over HTTP.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The older format of the same: a counter is described under the name that its samples have, and there is no end.
fn older(text: &str) -> String {
    let mut counters = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|line| line.strip_suffix(" counter")) {
            counters.insert(name);
        }
    }
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|head| Some((head, line.strip_prefix(head)?)));
        match described.and_then(|(head, rest)| Some((head, rest.split_once(' ')?))) {
            Some((head, (name, rest))) if counters.contains(name) => {
                out.push_str(&format!("{head}{name}_total {rest}"));
            }
            Some(_) | None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn branch_gauges(registry: &mut Registry, view: &View) {
    type Figure = fn(&crate::bank::Card) -> Option<i64>;
    let figures: [(&str, &str, Figure); 7] = [
        ("branch_up", "Whether the branch answers", |card| Some(i64::from(card.is_up()))),
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
    let balances = view.branches.iter().filter_map(|card| Some((card.name.clone(), card.balances?)));
    money_by_branch(registry, "branch_balances_paise", "What its customers hold", &balances.collect::<Vec<_>>());
}

/// A sum for each branch, as [`money`] tells one.
fn money_by_branch(registry: &mut Registry, name: &str, help: &str, totals: &[(String, Total)]) {
    if totals.iter().all(|(_, total)| i64::try_from(total.paise()).is_ok()) {
        let family: Family<Labels<1>, Gauge> = Family::default();
        for (branch, total) in totals {
            let paise = i64::try_from(total.paise()).expect("it was looked at");
            family.get_or_create(&[("branch", branch.clone())]).set(paise);
        }
        registry.register(name, help, family);
    } else {
        let family: Family<Labels<1>, Gauge<f64, AtomicU64>> = Family::default();
        for (branch, total) in totals {
            family.get_or_create(&[("branch", branch.clone())]).set(nearly(*total));
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

/// A sum over the whole bank: exact as long as it fits, and then as near as Prometheus' own numbers come.
fn money(registry: &mut Registry, name: &str, help: &str, total: Total) {
    if let Ok(paise) = i64::try_from(total.paise()) {
        let gauge: Gauge = Gauge::default();
        gauge.set(paise);
        registry.register(name, help, gauge);
    } else {
        let gauge: Gauge<f64, AtomicU64> = Gauge::default();
        gauge.set(nearly(total));
        registry.register(name, help, gauge);
    }
}

/// Paise as Prometheus' own numbers come near them. Digits are read into a float rather than counted in one.
fn nearly(total: Total) -> f64 {
    total.paise().to_string().parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_no_integer_holds_is_told_all_the_same() {
        let check = |paise: i128, expected: &str| {
            let mut registry = Registry::default();
            money(&mut registry, "paid_in_paise", "Money", Total::from_paise(paise));
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let line = text.lines().find(|line| line.starts_with("paid_in_paise")).unwrap();
            assert_eq!(line, format!("paid_in_paise {expected}"));
        };
        check(-12, "-12");
        check(i64::MAX.into(), "9223372036854775807");
        check(i128::from(i64::MAX) * 1000, "9.223372036854776e21");
    }

    #[test]
    fn what_a_branch_holds_is_told_whatever_it_is() {
        let check = |delhi: i128, expected: &str| {
            let mut registry = Registry::default();
            let totals = [("Mumbai", 225_025), ("Delhi", delhi)];
            let totals = totals.map(|(branch, paise)| (branch.to_string(), Total::from_paise(paise)));
            money_by_branch(&mut registry, "held_paise", "Money", &totals);
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let line = text.lines().find(|line| line.contains("Delhi")).unwrap();
            assert_eq!(line, format!("held_paise{{branch=\"Delhi\"}} {expected}"));
        };
        check(100, "100");
        check(i128::from(i64::MAX) * 1000, "9.223372036854776e21");
    }

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let check = |accept: &str, expected: Format| assert_eq!(Format::accepted(accept), expected, "{accept}");
        check("", Format::Prometheus);
        check("*/*", Format::Prometheus);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Format::Prometheus);
        check("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format::Prometheus);
        check("application/openmetrics-text; version=1.0.0", Format::OpenMetrics);
        check(
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        );
        check("application/openmetrics-text;q=0.2,text/plain;q=0.9", Format::Prometheus);
        check("application/openmetrics-text;q=0", Format::Prometheus);
    }

    #[test]
    fn the_older_format_names_counters_as_their_samples() {
        let newer = "# HELP a_b Asked.\n# TYPE a_b counter\na_b_total{x=\"1\"} 5\n# HELP c Money.\n# TYPE c gauge\nc 1\n# EOF\n";
        let expected = "# HELP a_b_total Asked.\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 5\n# HELP c Money.\n# TYPE c gauge\nc 1\n";
        assert_eq!(older(newer), expected);
    }
}
