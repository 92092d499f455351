//! Three branches of three processes over a cluster of three PostgreSQL servers: all of it is killed and stopped at
//! random under load with repeated ids. `make soak ENGINE=postgres` runs it, for `SOAK_SECONDS`.

use std::env;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bank_tests::workload::{NAMES, World, expected_total, judge, repeat};
use bank_tests::{Bank, Branch, Random, wait_until};
use postgres_tests::{Cluster, is_owner, process, wait_for_owner};
use rustix::process::Signal;

const CLIENTS: usize = 9;
const SECONDS: u64 = 60;

#[derive(Default)]
struct Torments {
    kills: AtomicUsize,
    stops: AtomicUsize,
    servers: AtomicUsize,
    /// How long branches had no owner after a kill or a stop of the owner, and after what.
    outages: Mutex<Vec<(Duration, &'static str)>>,
}

#[test]
#[ignore = "it goes on for long, and needs Patroni and etcd"]
fn money_stays_exact_while_processes_servers_and_the_cluster_are_killed_and_stopped() {
    assert!(Cluster::is_possible(), "patroni and etcd are missing: apt-get install patroni etcd-server");
    let time = env::var("SOAK_SECONDS").map_or(SECONDS, |text| text.parse().expect("SOAK_SECONDS is a number"));
    let mut random = Random::from_environment();
    let (bank, mut cluster) = (Bank::new(), Cluster::start());
    let url = cluster.url();
    let mut branches = NAMES.map(|name| {
        let start = |copy: usize| bank.start(&format!("{name}-{copy}"), process(name, &url));
        let first = start(1);
        wait_for_owner(&[&first]);
        [first, start(2), start(3)]
    });
    let world = World::new(&bank, &branches.each_ref().map(|processes| &processes[0]));
    let torments = Torments::default();
    let mut tormentors: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
    for (home, processes) in branches.iter_mut().enumerate() {
        let (random, world, torments) = (random.fork(), &world, &torments);
        tormentors.push(Box::new(move || torment(world, home, processes, random, torments)));
    }
    let (own_random, shared, counts, servers) = (random.fork(), &world, &torments, &mut cluster);
    tormentors.push(Box::new(move || torment_cluster(shared, servers, own_random, counts)));
    let mut operations = world.run(CLIENTS, Duration::from_secs(time), &mut random, tormentors);
    wait_until("the cluster is whole", || cluster.has_synchronous_standby());
    let owners = branches.each_ref().map(|processes| &processes[wait_for_owner(&processes.each_ref())]);
    Bank::wait_until_settled(&owners);
    judge(&owners, &operations);
    println!("{}", world.summary(&operations));
    repeat(&owners, &mut operations);
    Bank::wait_until_settled(&owners);
    assert_eq!(judge(&owners, &operations), expected_total(&operations), "the clients know another sum");
    report(&torments);
}

fn report(torments: &Torments) {
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let outages = torments.outages.lock().unwrap();
    println!(
        "{} kills and {} stops of owners, {} of servers, Patroni or etcd; {} changes of owner were waited for",
        count(&torments.kills),
        count(&torments.stops),
        count(&torments.servers),
        outages.len()
    );
    for (outage, after) in outages.iter() {
        println!("{after}: another owner after {outage:?}");
    }
    assert!(!outages.is_empty(), "no owner was ever replaced");
}

/// Kills and stops the processes of one branch, and tells the clients where its owner is.
fn torment(world: &World, home: usize, processes: &mut [Branch; 3], mut random: Random, torments: &Torments) {
    while !world.is_over.load(Ordering::SeqCst) {
        let calm = Instant::now() + Duration::from_millis(2_000 + random.below(6_000));
        while Instant::now() < calm && !world.is_over.load(Ordering::SeqCst) {
            look_after(world, home, processes);
            world.wait(Duration::from_millis(200));
        }
        let Some(owner) = processes.iter().position(is_owner) else { continue };
        let begun = Instant::now();
        if random.below(3) > 0 {
            torments.kills.fetch_add(1, Ordering::SeqCst);
            processes[owner].kill9();
            wait_for_another(world, home, processes, owner, (begun, "the owner was killed"), torments);
            processes[owner].restart();
        } else {
            torments.stops.fetch_add(1, Ordering::SeqCst);
            processes[owner].signal(Signal::STOP);
            if random.below(2) == 0 {
                world.wait(Duration::from_millis(random.below(2_000)));
            } else {
                wait_for_another(world, home, processes, owner, (begun, "the owner was stopped"), torments);
            }
            processes[owner].signal(Signal::CONT);
        }
    }
    wait_until("the branch has an owner again", || {
        look_after(world, home, processes);
        processes.iter().any(is_owner)
    });
}

/// Waits until one of the others owns the branch, and takes the time.
fn wait_for_another(
    world: &World,
    home: usize,
    processes: &[Branch; 3],
    gone: usize,
    (begun, after): (Instant, &'static str),
    torments: &Torments,
) {
    let others = || (0..3).filter(|index| *index != gone);
    let mut owner = None;
    // A failover of PostgreSQL may be under way.
    bank_tests::wait_until_within(Duration::from_secs(120), "another process owns the branch", || {
        owner = others().find(|index| is_owner(&processes[*index]));
        owner.is_some()
    });
    torments.outages.lock().unwrap().push((begun.elapsed(), after));
    world.ports[home].store(processes[owner.unwrap()].port(), Ordering::SeqCst);
}

/// What a service manager does: starts again what has ended by itself. And tells the clients where the owner is.
fn look_after(world: &World, home: usize, processes: &mut [Branch; 3]) {
    for process in processes.iter_mut() {
        let state = fs::read_to_string(format!("/proc/{}/stat", process.process_id())).unwrap_or_default();
        if state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) {
            println!("a process had ended by itself: {:?}", process.wait());
            process.restart();
        }
    }
    if let Some(owner) = processes.iter().find(|process| is_owner(process)) {
        world.ports[home].store(owner.port(), Ordering::SeqCst);
    }
}

/// Kills and stops the servers, one thing at a time: the cluster is whole again before the next.
fn torment_cluster(world: &World, cluster: &mut Cluster, mut random: Random, torments: &Torments) {
    while !world.is_over.load(Ordering::SeqCst) {
        world.wait(Duration::from_millis(8_000 + random.below(15_000)));
        if world.is_over.load(Ordering::SeqCst) || !cluster.has_synchronous_standby() {
            continue;
        }
        let Some(leader) = cluster.leader() else { continue };
        torments.servers.fetch_add(1, Ordering::SeqCst);
        let pause = Duration::from_millis(1_000 + random.below(5_000));
        let meanwhile = || world.wait(pause);
        let other = usize::try_from(random.below(3)).unwrap();
        match random.below(5) {
            0 => cluster.kill_postgres(leader),
            1 => cluster.kill_postgres((leader + 1) % 3),
            2 => cluster.lose_machine(leader, || world.wait(Duration::from_secs(25))),
            3 => cluster.stop_patroni(other, meanwhile),
            _ => cluster.kill_etcd(other, meanwhile),
        }
    }
}
