//! What is done in a life: a case, as text and by chance.

use std::fmt;

use manyrun_tests::life::{SCENARIOS, Scenario};

/// When they are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the caller's system call of this number, of those that change anything.
    Call(u64),
    /// When this step is over.
    After(usize),
    /// So many microseconds after this step has begun.
    During(usize, u64),
}

/// Who is killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Victims {
    /// At the moment of the case. One that is not killed goes on with its life.
    pub(crate) caller: bool,
    /// The container's monitor: conmon, or the process that carries a shim's streams. At the same moment.
    pub(crate) monitor: bool,
    /// The container's shim, at the same moment.
    pub(crate) shim: bool,
    /// The init, before anybody looks again.
    pub(crate) init: bool,
}

impl Victims {
    pub(crate) const CALLER: Self = Self { caller: true, monitor: false, shim: false, init: false };
    const NOBODY: Self = Self { caller: false, ..Self::CALLER };
    const WITH_MONITOR: Self = Self { monitor: true, ..Self::CALLER };
    const WITH_SHIM: Self = Self { shim: true, ..Self::CALLER };
    const WITH_INIT: Self = Self { init: true, ..Self::CALLER };
    const WITH_ALL: Self = Self { monitor: true, shim: true, ..Self::CALLER };

    /// Who dies in the lives of a host runtime, the frequent ones several times.
    const OF_A_HOST_RUNTIME: &[Self] = &[
        Self::WITH_MONITOR,
        Self { init: true, ..Self::WITH_MONITOR },
        Self::WITH_INIT,
        Self::WITH_INIT,
        Self::CALLER,
        Self::CALLER,
        Self::CALLER,
        Self::CALLER,
    ];

    /// Who dies in the lives behind a shim: first those that each step of a life is tried with.
    const OF_A_SHIM: &[Self] = &[
        Self { shim: true, ..Self::NOBODY },
        Self::CALLER,
        Self::WITH_SHIM,
        Self { monitor: true, ..Self::NOBODY },
        Self::WITH_MONITOR,
        Self::WITH_ALL,
        Self::WITH_INIT,
        Self::CALLER,
    ];

    /// Who dies in the lives of a runtime of this name.
    fn of(binary: &str) -> &'static [Self] {
        if is_behind_shim(binary) { Self::OF_A_SHIM } else { Self::OF_A_HOST_RUNTIME }
    }

    /// Whether anybody but the caller dies.
    pub(crate) fn others(self) -> bool {
        self.monitor || self.shim || self.init
    }

    fn names(&mut self) -> [(&'static str, &mut bool); 4] {
        [
            ("caller", &mut self.caller),
            ("shim", &mut self.shim),
            ("monitor", &mut self.monitor),
            ("init", &mut self.init),
        ]
    }

    fn parse(text: &str) -> Self {
        let mut victims = Self::default();
        for word in text.split('+') {
            let mut names = victims.names();
            let found = names.iter_mut().find(|(name, _)| *name == word);
            *found.unwrap_or_else(|| panic!("no victim: {word:?}")).1 = true;
        }
        victims
    }
}

impl fmt::Display for Victims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut victims = *self;
        let names = victims.names();
        let killed: Vec<_> = names.iter().filter(|(_, dies)| **dies).map(|(name, _)| *name).collect();
        f.write_str(&killed.join("+"))
    }
}

/// Whether the next one who opens is killed as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Once,
    /// Before its call of this number.
    Twice(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) scenario: &'static Scenario,
    pub(crate) moment: Moment,
    pub(crate) victims: Victims,
    pub(crate) again: Again,
    /// Whether the container is deleted with force afterwards, instead of living on.
    pub(crate) force: bool,
    /// Whether it shares its shim with a container that nobody touches.
    pub(crate) guest: bool,
}

impl Case {
    /// The cases of one step: somebody is killed when it is over. Short campaigns have half of those that are alike: the
    /// monitor dies with the caller at one step and without it at the next, and so do guests and others lose their caller.
    pub(crate) fn of_step(
        binary: &str,
        scenario: &'static Scenario,
        step: usize,
        long: bool,
        random: &mut Random,
    ) -> Vec<Self> {
        let mut lives = vec![(Victims::CALLER, false)];
        if is_behind_shim(binary) {
            lives.extend(Victims::OF_A_SHIM[..5].iter().map(|victims| (*victims, false)));
            lives[0].1 = true;
            let odd = step % 2 == 1;
            lives.retain(|(victims, guest)| {
                let has_its_turn = if victims.monitor { victims.caller == odd } else { *guest == odd };
                long || victims.shim || has_its_turn
            });
        }
        let case = |(victims, guest)| {
            let force = random.one_of(2) == 0;
            Self { scenario, moment: Moment::After(step), victims, again: Again::Once, force, guest }
        };
        lives.into_iter().map(case).collect()
    }

    /// Any case on a runtime; `calls` is how many calls each scenario makes.
    pub(crate) fn random(random: &mut Random, calls: &[u64], binary: &str) -> Self {
        let chosen = usize::try_from(random.one_of(SCENARIOS.len() as u64)).unwrap();
        let scenario = &SCENARIOS[chosen];
        let moment = if random.one_of(4) == 0 {
            let step = random.one_of(scenario.steps.len() as u64);
            Moment::During(usize::try_from(step).unwrap(), random.one_of(40_000))
        } else {
            Moment::Call(1 + random.one_of(calls[chosen]))
        };
        let victims = Victims::of(binary);
        let victims = victims[usize::try_from(random.one_of(victims.len() as u64)).unwrap()];
        let again = if random.one_of(4) == 0 { Again::Twice(1 + random.one_of(60)) } else { Again::Once };
        let force = random.one_of(3) == 0;
        // What is shared is not killed.
        let guest = is_behind_shim(binary) && !victims.shim && !victims.monitor && random.one_of(2) == 0;
        Self { scenario, moment, victims, again, force, guest }
    }

    /// Somebody is killed so many microseconds after a step has begun.
    pub(crate) fn during(
        binary: &str,
        scenario: &'static Scenario,
        step: usize,
        micros: u64,
        random: &mut Random,
    ) -> Self {
        let all = Victims::of(binary);
        let victims = all[usize::try_from(random.one_of(all.len() as u64)).unwrap()];
        let again = if random.one_of(4) == 0 { Again::Twice(1 + random.one_of(60)) } else { Again::Once };
        let force = random.one_of(3) == 0;
        Self { scenario, moment: Moment::During(step, micros), victims, again, force, guest: false }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let [scenario, moment, victims, again, finish] = words.as_slice() else {
            panic!("a case has five words: {text:?}")
        };
        let numbers: Vec<u64> = moment.split(':').skip(1).map(|number| number.parse().unwrap()).collect();
        let moment = match (moment.split(':').next().unwrap(), numbers.as_slice()) {
            ("call", [number]) => Moment::Call(*number),
            ("after", [step]) => Moment::After(usize::try_from(*step).unwrap()),
            ("during", [step, micros]) => Moment::During(usize::try_from(*step).unwrap(), *micros),
            _ => panic!("no moment: {moment:?}"),
        };
        let again = match again.split_once(':') {
            None => Again::Once,
            Some((_, call)) => Again::Twice(call.parse().unwrap()),
        };
        let (scenario, guest) = match scenario.strip_prefix("guest-") {
            Some(scenario) => (scenario, true),
            None => (*scenario, false),
        };
        let scenario = Scenario::named(scenario).unwrap();
        let victims = Victims::parse(victims);
        Self { scenario, moment, victims, again, force: *finish == "force", guest }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} ", if self.guest { "guest-" } else { "" }, self.scenario.name)?;
        match self.moment {
            Moment::Call(call) => write!(f, "call:{call} ")?,
            Moment::After(step) => write!(f, "after:{step} ")?,
            Moment::During(step, micros) => write!(f, "during:{step}:{micros} ")?,
        }
        write!(f, "{} ", self.victims)?;
        match self.again {
            Again::Once => f.write_str("once ")?,
            Again::Twice(call) => write!(f, "twice:{call} ")?,
        }
        f.write_str(if self.force { "force" } else { "live" })
    }
}

fn is_behind_shim(binary: &str) -> bool {
    manyrun_tests::handler::shim_of(binary).is_some()
}

/// Numbers that look random and come again from the same seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn one_of(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

#[test]
fn a_case_is_read_back_from_its_text() {
    let mut random = Random::new(7);
    for binary in ["runc", "vm:runc"] {
        for _ in 0..100 {
            let text = Case::random(&mut random, &[100; 5], binary).to_string();
            assert_eq!(Case::parse(&text).to_string(), text);
        }
    }
}
