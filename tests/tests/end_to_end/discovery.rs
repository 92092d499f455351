//! Branches that find one another: through one that both know, after a move, and never under a name that is not theirs.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use bank_tests::{Bank, Branch, Options, wait_until};
use protocol::answer::Branch as BranchLine;
use serde_json::json;

/// A branch of this name that is told of these others.
fn knowing(bank: &Bank, name: &str, others: &[(&str, &Branch)]) -> Branch {
    let peers: Vec<_> = others.iter().map(|(name, branch)| format!("{name}=127.0.0.1:{}", branch.port())).collect();
    let options = Options::named(name);
    bank.start(name, if peers.is_empty() { options } else { options.value("--peers", peers.join(",")) })
}

/// The branches that one says it is linked to.
fn linked(branch: &Branch) -> Vec<String> {
    let lines: Vec<BranchLine> = branch.connect().ask("branches", json!({})).result();
    lines.into_iter().filter(|line| line.state == "up").map(|line| line.name).collect()
}

#[track_caller]
fn wait_until_linked(branch: &Branch, expected: &[&str]) {
    wait_until(&format!("{expected:?} are linked"), || linked(branch) == expected);
}

fn pay(from: &Branch, to: &str) -> bank_tests::Reply {
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1, "dest_branch": to});
    from.connect().ask("inter_branch_transfer", params)
}

fn pay_at(from: &Branch, port: u16) -> bank_tests::Reply {
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1, "dest_host": "127.0.0.1",
        "dest_port": port});
    from.connect().ask("inter_branch_transfer", params)
}

#[track_caller]
fn wait_for_log(branch: &Branch, expected: &str) {
    wait_until(&format!("the log says {expected:?}"), || branch.log().text().contains(expected));
}

#[test]
fn in_a_chain_each_comes_to_know_all() {
    let bank = Bank::new();
    let mumbai = knowing(&bank, "Mumbai", &[]);
    let delhi = knowing(&bank, "Delhi", &[("Mumbai", &mumbai)]);
    let pune = knowing(&bank, "Pune", &[("Delhi", &delhi)]);
    let agra = knowing(&bank, "Agra", &[("Pune", &pune)]);
    wait_until_linked(&mumbai, &["Agra", "Delhi", "Pune"]);
    wait_until_linked(&delhi, &["Agra", "Mumbai", "Pune"]);
    wait_until_linked(&pune, &["Agra", "Delhi", "Mumbai"]);
    wait_until_linked(&agra, &["Delhi", "Mumbai", "Pune"]);
    // Those who never heard of one another's addresses pay one another by name.
    pay(&mumbai, "Agra").ok();
    pay(&agra, "Mumbai").ok();
    let all = [&mumbai, &delhi, &pune, &agra];
    Bank::wait_until_settled(&all);
    assert_eq!(Bank::assert_exact(&all).to_string(), "8000.00");
}

#[test]
fn a_branch_that_has_moved_is_found_under_its_name() {
    let bank = Bank::new();
    let mut mumbai = knowing(&bank, "Mumbai", &[]);
    let delhi = knowing(&bank, "Delhi", &[("Mumbai", &mumbai)]);
    let pune = knowing(&bank, "Pune", &[("Mumbai", &mumbai)]);
    wait_until_linked(&delhi, &["Mumbai", "Pune"]);
    // One who was not there when it moved is told by the others, or by itself.
    mumbai.kill9();
    let old_port = delhi.port();
    drop(delhi);
    let delhi = knowing(&bank, "Delhi", &[]);
    assert_ne!(delhi.port(), old_port);
    wait_until_linked(&pune, &["Delhi"]);
    mumbai.restart();
    wait_until_linked(&mumbai, &["Delhi", "Pune"]);
    for payer in [&mumbai, &pune] {
        pay(payer, "Delhi").ok();
    }
    Bank::wait_until_settled(&[&mumbai, &delhi, &pune]);
    assert_eq!(delhi.connect().balance(1002), "1002.00");
}

#[test]
fn whoever_took_over_a_branches_port_does_not_take_its_money() {
    let bank = Bank::new();
    let mumbai = knowing(&bank, "Mumbai", &[]);
    let delhi = knowing(&bank, "Delhi", &[("Mumbai", &mumbai)]);
    wait_until_linked(&mumbai, &["Delhi"]);
    let port = delhi.port();
    drop(delhi);
    wait_until_linked(&mumbai, &[]);
    let pune = bank.start("Pune", Options::named("Pune").value("--port", port));
    wait_for_log(&mumbai, &format!("at 127.0.0.1:{port} there is branch Pune, not Delhi"));
    pay(&mumbai, "Delhi").refused("branch_unreachable");
    let delhi = knowing(&bank, "Delhi", &[]);
    wait_until_linked(&mumbai, &["Delhi"]);
    pay(&mumbai, "Delhi").ok();
    Bank::wait_until_settled(&[&mumbai, &delhi, &pune]);
    assert_eq!(delhi.connect().balance(1002), "1001.00");
    assert_eq!(pune.connect().balance(1002), "1000.00");
}

#[test]
fn a_second_branch_of_a_name_is_refused_and_both_sides_say_why() {
    let bank = Bank::new();
    let mumbai = knowing(&bank, "Mumbai", &[]);
    let delhi = knowing(&bank, "Delhi", &[("Mumbai", &mumbai)]);
    wait_until_linked(&mumbai, &["Delhi"]);
    // It comes by itself.
    let peers = format!("Mumbai=127.0.0.1:{}", mumbai.port());
    let second = bank.start("second", Options::named("Delhi").value("--peers", peers));
    let told = format!("there are two branches Delhi, one of them at 127.0.0.1:{}", delhi.port());
    wait_for_log(&mumbai, &told);
    wait_for_log(&second, &told);
    assert_eq!(linked(&second), [""; 0]);
    // It is visited.
    let visited = pay_at(&mumbai, second.port());
    visited.refused("name_taken");
    assert!(visited.text.contains(&told), "{}", visited.text);
    wait_for_log(&second, "Mumbai refuses the link: there are two branches Delhi");
    // The first one has not noticed any of it.
    pay(&mumbai, "Delhi").ok();
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_eq!(delhi.connect().balance(1002), "1001.00");
    assert_eq!(second.connect().balance(1002), "1000.00");
}

#[test]
fn a_branch_that_meets_another_of_its_own_name_pays_nothing_there_or_here() {
    let bank = Bank::new();
    let mumbai = knowing(&bank, "Mumbai", &[]);
    let second = bank.start("second", Options::named("Mumbai"));
    let refused = pay_at(&mumbai, second.port());
    refused.refused("name_taken");
    assert!(refused.text.contains("there are two branches Mumbai"), "{}", refused.text);
    wait_for_log(&second, "there are two branches Mumbai");
    for branch in [&mumbai, &second] {
        let mut connection = branch.connect();
        assert_eq!([1001, 1002].map(|account| connection.balance(account)), ["1000.00", "1000.00"]);
    }
    // Its own address is no other branch.
    pay_at(&mumbai, mumbai.port()).ok();
    assert_eq!(mumbai.connect().balance(1002), "1001.00");
}

/// Whether what is sent to a multicast group comes back over loopback, as it does not on every machine.
fn loopback_carries_multicast() -> bool {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let try_it = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
        rustix::net::sockopt::set_ip_multicast_if(&socket, &Ipv4Addr::LOCALHOST)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send_to(b"heard", (group, socket.local_addr()?.port()))?;
        socket.recv(&mut [0; 16])
    };
    let tried: std::io::Result<usize> = try_it();
    tried.is_ok()
}

#[test]
fn a_program_without_mdns_says_how_to_build_one_with_it() {
    let refused = Branch::try_start(Options::preloaded().flag("--mdns")).map(drop).expect_err("it started");
    assert_eq!(refused.status, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("cargo build -p bank-server --features mdns"), "{refused:?}");
}

#[test]
#[ignore = "needs a bank-server that was built with mDNS: make test builds one for it"]
fn branches_on_one_network_meet_by_mdns_and_pass_other_banks_over() {
    if !loopback_carries_multicast() {
        println!("skipped: loopback carries no multicast here");
        return;
    }
    let (bank, other_bank) = (Bank::new(), Bank::new());
    let start =
        |bank: &Bank, name: &str| bank.start(name, Options::named(name).flag("--mdns").variable("RUST_LOG", "debug"));
    let mumbai = start(&bank, "Mumbai");
    let stranger = start(&other_bank, "Pune");
    let mut delhi = start(&bank, "Delhi");
    wait_until_linked(&mumbai, &["Delhi"]);
    pay(&delhi, "Mumbai").ok();
    wait_for_log(&stranger, "is of another bank");
    for branch in [&mumbai, &delhi, &stranger] {
        assert!(!branch.log().text().contains("has another key"), "{}", branch.log().text());
    }
    assert_eq!(linked(&stranger), [""; 0]);
    // A branch that stops within its time also takes its announcement back.
    assert_eq!(delhi.stop(), Some(0));
}
