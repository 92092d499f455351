//! What a program holds, and the rule by which it is held not to grow.
//!
//! The first third of the time is for getting up to it: caches fill, and what is held for a silent client is held for
//! up to a minute. Of the other two, the mean of the last may exceed the mean of the middle one by a twentieth and a
//! little more ([`Held::SLACK`]). The hostile clients do the same all the time, so whatever leaks with each connection
//! or request goes on growing, and is found.

use std::fs;

/// What a program holds, by the system's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Resident memory, in KiB.
    pub memory_kib: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Held {
    /// What comes and goes by chance.
    const SLACK: Self = Self { memory_kib: 8 << 10, threads: 16, descriptors: 24 };

    fn figures(self) -> [(&'static str, u64); 3] {
        [("KiB", self.memory_kib), ("threads", self.threads), ("descriptors", self.descriptors)]
    }
}

/// A program that is watched.
pub struct Process {
    /// What it is called.
    pub name: &'static str,
    /// Its number.
    pub id: u32,
}

impl Process {
    /// What it holds now.
    pub fn look(&self) -> Held {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap();
        let figure = |label: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(label)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.id)).unwrap().count() as u64;
        Held { memory_kib: figure("VmRSS:"), threads: figure("Threads:"), descriptors }
    }
}

/// What the programs held, look by look.
pub struct Samples(Vec<(&'static str, Vec<Held>)>);

impl Samples {
    /// None yet.
    pub fn new(processes: &[Process]) -> Self {
        Self(processes.iter().map(|process| (process.name, Vec::new())).collect())
    }

    /// Looks once more.
    pub fn add(&mut self, processes: &[Process]) {
        for (process, (_, looks)) in processes.iter().zip(&mut self.0) {
            looks.push(process.look());
        }
    }

    /// The means of the thirds.
    pub fn print(&self) {
        for (name, looks) in &self.0 {
            let thirds = thirds(looks).map(mean);
            for place in 0..3 {
                let (unit, _) = Held::SLACK.figures()[place];
                let [first, middle, last] = thirds.map(|held| held.figures()[place].1);
                let most = looks.iter().map(|held| held.figures()[place].1).max().unwrap_or(0);
                println!("{name:<8} {unit:<12} means of thirds {first} {middle} {last}, most {most}");
            }
        }
    }

    /// The rule.
    ///
    /// # Panics
    /// When something has grown.
    #[track_caller]
    pub fn assert_flat(&self) {
        for (name, looks) in &self.0 {
            if let Some(grown) = grown(looks) {
                panic!("{name} grows: {grown}");
            }
        }
    }
}

/// What has grown, if anything has.
fn grown(looks: &[Held]) -> Option<String> {
    let [_, middle, last] = thirds(looks).map(mean);
    let figures = middle.figures().into_iter().zip(last.figures()).zip(Held::SLACK.figures());
    let mut grown = figures.filter(|(((_, middle), (_, last)), (_, slack))| *last > middle + middle / 20 + slack);
    grown.next().map(|(((unit, middle), (_, last)), _)| format!("from {middle} to {last} {unit}"))
}

fn thirds(looks: &[Held]) -> [&[Held]; 3] {
    let third = looks.len() / 3;
    [&looks[..third], &looks[third..2 * third], &looks[2 * third..]]
}

fn mean(looks: &[Held]) -> Held {
    let count = looks.len().max(1) as u64;
    let mean = |figure: fn(&Held) -> u64| looks.iter().map(figure).sum::<u64>() / count;
    Held {
        memory_kib: mean(|held| held.memory_kib),
        threads: mean(|held| held.threads),
        descriptors: mean(|held| held.descriptors),
    }
}

#[test]
fn a_leak_is_found_and_what_comes_and_goes_is_none() {
    let looks = |memory_kib: fn(u64) -> u64| -> Vec<Held> {
        (0..300).map(|second| Held { memory_kib: memory_kib(second), threads: 20, descriptors: 30 }).collect()
    };
    assert_eq!(grown(&looks(|second| 100_000 + 20_000 * (second % 2))), None);
    assert_eq!(grown(&looks(|second| if second < 90 { 1_000 * second } else { 90_000 })), None);
    assert!(grown(&looks(|second| 100_000 + 200 * second)).is_some_and(|grown| grown.ends_with("KiB")));
    let mut threads = looks(|_| 100_000);
    threads.iter_mut().zip(0..).for_each(|(held, second)| held.threads += second / 4);
    assert!(grown(&threads).is_some_and(|grown| grown.ends_with("threads")));
}
