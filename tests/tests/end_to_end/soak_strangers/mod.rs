//! Hostile clients beside ordinary ones, for minutes, at every port of a bank of three branches and its bridge.
//!
//! What is claimed: ordinary users get right answers and none is refused, 99 in 100 of their operations end in
//! [`P99`], the books are exact at the end, and what hostile clients make a program hold does not grow: see
//! [`measures`] for the rule. Afterwards all that they held is let go.
//!
//! `STRANGERS_SECONDS` says how long; `BANK_TEST_SEED` repeats what is drawn by lot. It is apart from the other tests
//! because thirds of less than a minute say nothing: what is held for a silent client is held for up to a minute. And
//! it has the allocator give back what is free (`make soak-strangers` says how), so that memory is what is in use.

mod http_strangers;
mod measures;
mod strangers;
mod users;
mod world;

use std::env;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Bank, Random, SetOnDrop, raise_descriptor_limit, wait_until_within};

use self::measures::{Process, Samples};
use self::world::World;

/// How long, unless `STRANGERS_SECONDS` says otherwise.
const SECONDS: u64 = 300;
/// In what time 99 of 100 operations of an ordinary user end, where the hostile clients and the users' own programs
/// share two processors with the bank.
const P99: Duration = Duration::from_secs(2);
/// The same for a log-in, which hashes a password beside others who do nothing else.
const LOG_IN_P99: Duration = Duration::from_secs(5);
/// How long hostile clients' places may be held after they have hung up: longer than a frame may take.
const LET_GO_WITHIN: Duration = Duration::from_secs(90);
/// Threads and descriptors that a program may have more afterwards than before: idle connections of its own.
const KEPT_AFTERWARDS: u64 = 24;

#[test]
#[ignore = "takes minutes: make soak-strangers"]
fn hostile_clients_cost_the_others_little_and_what_they_hold_is_bounded() {
    let seconds = env::var("STRANGERS_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number of seconds"));
    raise_descriptor_limit(16_384);
    let mut random = Random::from_environment();
    let world = World::start();
    let processes = world.processes();
    let before: Vec<_> = processes.iter().map(Process::look).collect();
    let (samples, latencies) = run(&world, &processes, Duration::from_secs(seconds), &mut random);
    for count in world.counts() {
        println!("{count}");
    }
    latencies.print();
    samples.print();
    assert!(world.counts().iter().all(|count| count.is_some()), "each kind of hostile client did its worst");
    latencies.assert_below(P99, LOG_IN_P99);
    samples.assert_flat();
    for (process, before) in processes.iter().zip(before) {
        wait_until_within(LET_GO_WITHIN, "what hostile clients held is let go", || {
            let now = process.look();
            now.threads <= before.threads + KEPT_AFTERWARDS && now.descriptors <= before.descriptors + KEPT_AFTERWARDS
        });
    }
    Bank::wait_until_settled(&[&world.mumbai, &world.delhi]);
    Bank::assert_exact(&[&world.mumbai, &world.delhi]);
}

/// Lets everyone at it for so long. Gives what the programs held, second by second, and how long the ordinary users
/// waited.
fn run(world: &World, processes: &[Process], time: Duration, random: &mut Random) -> (Samples, users::Latencies) {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        // However this ends, the others end too.
        let _over = SetOnDrop(&world.is_over);
        for (number, (kind, hostile)) in strangers::KINDS.iter().chain(&http_strangers::KINDS).enumerate() {
            let random = random.fork();
            let name = format!("hostile-{number}");
            let run = move || world.be_hostile(kind, random, *hostile);
            thread::Builder::new().name(name).spawn_scoped(scope, run).unwrap();
        }
        let users: Vec<_> = users::ALL.iter().map(|user| scope.spawn(move || user(world))).collect();
        let mut samples = Samples::new(processes);
        while Instant::now() < end && !users.iter().any(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_secs(1));
            samples.add(processes);
        }
        let over = SetOnDrop(&world.is_over);
        drop(over);
        let mut latencies = users::Latencies::default();
        for user in users {
            latencies.append(user.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        (samples, latencies)
    })
}
