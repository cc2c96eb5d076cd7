//! What is done to a caller: a case, as text and by chance.

use std::fmt;

use manyrun_tests::life::{SCENARIOS, Scenario};

/// When the caller is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the system call of this number, of those that change anything.
    Call(u64),
    /// When this step is over.
    After(usize),
    /// So many microseconds after this step has begun.
    During(usize, u64),
}

/// Who is killed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Injury {
    Nobody,
    /// conmon, at the same moment.
    Monitor,
    /// The init, before anybody looks again.
    Init,
    /// conmon first and the init then.
    Both,
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
    pub(crate) injury: Injury,
    pub(crate) again: Again,
    /// Whether the container is deleted with force afterwards, instead of living on.
    pub(crate) force: bool,
}

impl Case {
    pub(crate) fn after(scenario: &'static Scenario, step: usize, random: &mut Random) -> Self {
        Self {
            scenario,
            moment: Moment::After(step),
            injury: Injury::Nobody,
            again: Again::Once,
            force: random.one_of(2) == 0,
        }
    }

    /// Any case; `calls` is how many calls each scenario makes.
    pub(crate) fn random(random: &mut Random, calls: &[u64]) -> Self {
        let chosen = usize::try_from(random.one_of(SCENARIOS.len() as u64)).unwrap();
        let scenario = &SCENARIOS[chosen];
        let moment = if random.one_of(4) == 0 {
            let step = random.one_of(scenario.steps.len() as u64);
            Moment::During(usize::try_from(step).unwrap(), random.one_of(40_000))
        } else {
            Moment::Call(1 + random.one_of(calls[chosen]))
        };
        let injury = match random.one_of(8) {
            0 => Injury::Monitor,
            1 => Injury::Both,
            2 | 3 => Injury::Init,
            _ => Injury::Nobody,
        };
        let again = if random.one_of(4) == 0 { Again::Twice(1 + random.one_of(60)) } else { Again::Once };
        Self { scenario, moment, injury, again, force: random.one_of(3) == 0 }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let [scenario, moment, injury, again, finish] = words.as_slice() else {
            panic!("a case has five words: {text:?}")
        };
        let numbers: Vec<u64> = moment.split(':').skip(1).map(|number| number.parse().unwrap()).collect();
        let moment = match (moment.split(':').next().unwrap(), numbers.as_slice()) {
            ("call", [number]) => Moment::Call(*number),
            ("after", [step]) => Moment::After(usize::try_from(*step).unwrap()),
            ("during", [step, micros]) => Moment::During(usize::try_from(*step).unwrap(), *micros),
            _ => panic!("no moment: {moment:?}"),
        };
        let injury = match *injury {
            "none" => Injury::Nobody,
            "monitor" => Injury::Monitor,
            "init" => Injury::Init,
            "both" => Injury::Both,
            _ => panic!("no injury: {injury:?}"),
        };
        let again = match again.split_once(':') {
            None => Again::Once,
            Some((_, call)) => Again::Twice(call.parse().unwrap()),
        };
        let scenario = Scenario::named(scenario).unwrap();
        Self { scenario, moment, injury, again, force: *finish == "force" }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.scenario.name)?;
        match self.moment {
            Moment::Call(call) => write!(f, "call:{call} ")?,
            Moment::After(step) => write!(f, "after:{step} ")?,
            Moment::During(step, micros) => write!(f, "during:{step}:{micros} ")?,
        }
        f.write_str(match self.injury {
            Injury::Nobody => "none ",
            Injury::Monitor => "monitor ",
            Injury::Init => "init ",
            Injury::Both => "both ",
        })?;
        match self.again {
            Again::Once => f.write_str("once ")?,
            Again::Twice(call) => write!(f, "twice:{call} ")?,
        }
        f.write_str(if self.force { "force" } else { "live" })
    }
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
    for _ in 0..100 {
        let text = Case::random(&mut random, &[100; 5]).to_string();
        assert_eq!(Case::parse(&text).to_string(), text);
    }
}
