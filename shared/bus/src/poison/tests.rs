use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::core::{Core, Item, Ticket};

/// Messages in flight at one time.
const WINDOW: usize = 8;

/// One process: its own state, and its messages in flight.
struct Member {
    core: Core<()>,
    watch: Watch,
    flying: Vec<Flying>,
}

struct Flying {
    ticket: Ticket,
    item: Item<()>,
    alone: bool,
    condemned: bool,
}

/// A topic, a ledger and processes, of which some end without a word.
struct World {
    /// The lane of each message, by partition.
    log: Vec<Vec<u64>>,
    poison: BTreeSet<(i32, i64)>,
    ledger: Entries,
    committed: Vec<i64>,
    members: Vec<Member>,
    /// Which member has a partition.
    owner: Vec<usize>,
    born: usize,
    deaths: usize,
    alone_at_deaths: BTreeMap<(i32, i64), u32>,
    done: BTreeSet<(i32, i64)>,
    buried: BTreeSet<(i32, i64)>,
}

impl World {
    fn new(log: Vec<Vec<u64>>, poison: BTreeSet<(i32, i64)>) -> Self {
        let partitions = log.len();
        let mut world = Self {
            log,
            poison,
            ledger: Entries::new(),
            committed: vec![0; partitions],
            members: Vec::new(),
            owner: vec![0; partitions],
            born: 0,
            deaths: 0,
            alone_at_deaths: BTreeMap::new(),
            done: BTreeSet::new(),
            buried: BTreeSet::new(),
        };
        for _ in 0..2 {
            let member = world.newborn();
            world.members.push(member);
        }
        for partition in 0..partitions {
            world.assign(partition, partition % 2);
        }
        world
    }

    fn newborn(&mut self) -> Member {
        self.born += 1;
        Member {
            core: Core::new(),
            watch: Watch::new(format!("m{}", self.born), WINDOW),
            flying: Vec::new(),
        }
    }

    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(entry, value) => drop(self.ledger.insert(entry, value)),
                Change::Add(entry, by) => {
                    let count: i64 = self.ledger.get(&entry).map_or(0, |n| n.parse().unwrap());
                    self.ledger.insert(entry, (count + by).to_string());
                }
                Change::Remove(entry) => drop(self.ledger.remove(&entry)),
                Change::Clear => self.ledger.clear(),
            }
        }
    }

    fn assign(&mut self, partition: usize, member: usize) {
        self.owner[partition] = member;
        let p = partition as i32;
        self.members[member].core.assign(p);
        let notes = self.members[member].watch.claim(&[p]);
        self.write(notes);
        let said = self.ledger.clone();
        let learnt = self.members[member].watch.learn(&[p], &said);
        self.write(learnt);
        for offset in self.committed[partition]..self.log[partition].len() as i64 {
            let lane = self.log[partition][offset as usize];
            let m = &mut self.members[member];
            m.core.record(p, offset, lane, ());
            if !m.watch.is_quiet() {
                let changes = m.watch.record(p, offset);
                self.write(changes);
            }
        }
    }

    /// Begins what may be begun, as the loop does.
    fn begin(&mut self, member: usize) {
        while self.members[member].core.in_flight() < WINDOW {
            let m = &mut self.members[member];
            let room = WINDOW - m.core.in_flight();
            if m.watch.is_quiet() {
                let Some(batch) = m.core.next(room) else { return };
                let flying = |(ticket, item)| Flying {
                    ticket,
                    item,
                    alone: false,
                    condemned: false,
                };
                m.flying.extend(batch.items.into_iter().map(flying));
                continue;
            }
            let Some(next) = m.watch.next(&mut m.core, room) else { return };
            let (batch, notes, alone, condemned) = match next {
                Next::Beside { batch, notes } => (batch, notes, false, false),
                Next::Alone { batch, deaths, notes } => {
                    assert_eq!((batch.items.len(), m.flying.len()), (1, 0), "a suspect is not alone");
                    (batch, notes, true, deaths >= DEATHS)
                }
            };
            for (ticket, item) in batch.items {
                m.flying.push(Flying {
                    ticket,
                    item,
                    alone,
                    condemned,
                });
            }
            self.write(notes);
        }
    }

    /// A message comes back from its handler, or ends the process.
    fn finish(&mut self, member: usize, which: usize) {
        if self.members[member].flying.is_empty() {
            return;
        }
        let which = which % self.members[member].flying.len();
        let at = (
            self.members[member].flying[which].ticket.partition,
            self.members[member].flying[which].item.offset,
        );
        if self.poison.contains(&at) && !self.members[member].flying[which].condemned {
            return self.die(member);
        }
        let flying = self.members[member].flying.remove(which);
        if flying.condemned {
            assert!(
                self.alone_at_deaths[&at] >= DEATHS,
                "{at:?} was given up and not alone at {DEATHS} deaths"
            );
            self.buried.insert(at);
        }
        self.done.insert(at);
        let m = &mut self.members[member];
        m.core.done(flying.ticket);
        let changes = m.watch.back(at.0, at.1, Came::Done);
        self.write(changes);
    }

    fn commit(&mut self, member: usize) {
        let offsets = self.members[member].core.to_commit();
        for (partition, offset) in &offsets {
            self.committed[*partition as usize] = *offset;
        }
        self.members[member].core.committed(&offsets);
        self.members[member].watch.committed(&offsets);
    }

    fn die(&mut self, member: usize) {
        self.deaths += 1;
        if let [only] = self.members[member].flying.as_slice()
            && only.alone
        {
            *self.alone_at_deaths.entry((only.ticket.partition, only.item.offset)).or_default() += 1;
        }
        self.members[member] = self.newborn();
        // Its partitions go to whoever is there; the other first, then it is its own successor.
        for partition in 0..self.owner.len() {
            if self.owner[partition] == member {
                self.assign(partition, (self.deaths + partition) % 2);
            }
        }
    }

    /// A partition moves in order: what is done is committed, what is not goes with it.
    fn hand_over(&mut self, partition: usize) {
        let from = self.owner[partition];
        self.commit(from);
        let p = partition as i32;
        let m = &mut self.members[from];
        m.flying.retain(|f| f.ticket.partition != p);
        m.core.revoke(p);
        let changes = m.watch.give_up(&[p]);
        self.write(changes);
        self.assign(partition, 1 - from);
    }

    fn is_done(&self) -> bool {
        self.committed.iter().zip(&self.log).all(|(c, log)| *c == log.len() as i64)
    }

    /// Nobody is killed from outside any more.
    fn run_to_the_end(&mut self, order: usize) {
        for step in 0..100_000 {
            if self.is_done() {
                return;
            }
            for member in 0..2 {
                self.begin(member);
                self.finish(member, order.wrapping_mul(step));
                self.commit(member);
            }
        }
        panic!("it does not end: committed {:?}, ledger {:?}", self.committed, self.ledger);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    Finish(usize, usize),
    Commit(usize),
    Kill(usize),
    HandOver(usize),
    LoseTheLedger,
}

fn steps(kills: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0usize..2).prop_map(Step::Begin),
        40 => (0usize..2, 0usize..WINDOW).prop_map(|(m, n)| Step::Finish(m, n)),
        6 => (0usize..2).prop_map(Step::Commit),
        kills => (0usize..2).prop_map(Step::Kill),
        2 => (0usize..3).prop_map(Step::HandOver),
        1 => Just(Step::LoseTheLedger),
    ];
    prop::collection::vec(step, 0..300)
}

fn logs() -> impl Strategy<Value = Vec<Vec<u64>>> {
    prop::collection::vec(prop::collection::vec(0u64..12, 1..80), 3)
}

fn play(world: &mut World, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Begin(member) => world.begin(member),
            Step::Finish(member, which) => world.finish(member, which),
            Step::Commit(member) => world.commit(member),
            Step::Kill(member) => world.die(member),
            Step::HandOver(partition) => world.hand_over(partition),
            Step::LoseTheLedger => world.ledger.clear(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever dies and whenever, and with the ledger losing its memory in between: nothing is given up that was not
    /// alone at three deaths, nothing is lost, and nothing is left in the ledger but the notes of the living.
    #[test]
    fn random_deaths_lose_nothing_and_blame_nobody_who_was_not_alone(log in logs(), steps in steps(4), order in 1usize..50) {
        let mut world = World::new(log, BTreeSet::new());
        play(&mut world, steps);
        world.run_to_the_end(order);
        prop_assert!(world.buried.iter().all(|at| world.alone_at_deaths[at] >= DEATHS));
        prop_assert_eq!(world.done.len(), world.log.iter().map(Vec::len).sum::<usize>());
        let dead: Vec<_> = world.ledger.keys().filter(|e| !world.members.iter().any(|m| e.starts_with(&format!("{}/", m.watch.me)))).collect();
        prop_assert!(dead.is_empty(), "{:?}", dead);
    }

    /// A message that ends every process is given up after few deaths, and nothing else is.
    #[test]
    fn poison_is_found_and_the_rest_goes_on(log in logs(), wanted in prop::collection::vec((0usize..3, 0usize..80), 1..3), steps in steps(0), order in 1usize..50) {
        let poison: BTreeSet<(i32, i64)> = wanted.into_iter().map(|(p, o)| (p as i32, (o % log[p].len()) as i64)).collect();
        let mut world = World::new(log, poison.clone());
        play(&mut world, steps);
        let before = world.deaths;
        world.run_to_the_end(order);
        prop_assert_eq!(&world.buried, &poison);
        prop_assert_eq!(world.done.len(), world.log.iter().map(Vec::len).sum::<usize>());
        // One in which nobody knows anything, one that shows the window, and three alone; for each of them.
        let each = 2 + DEATHS as usize;
        prop_assert!(world.deaths - before <= each * poison.len() + 2, "{} deaths for {} messages", world.deaths - before, poison.len());
    }
}

#[test]
fn a_message_alone_at_two_deaths_is_tried_again_and_at_the_third_given_up() {
    let mut world = World::new(vec![vec![0, 1, 2, 3], vec![], vec![]], BTreeSet::from([(0, 2)]));
    world.run_to_the_end(1);
    assert_eq!(world.alone_at_deaths, BTreeMap::from([((0, 2), DEATHS)]));
    assert_eq!(world.deaths, 1 + DEATHS as usize);
    assert_eq!(world.buried, BTreeSet::from([(0, 2)]));
}

#[test]
fn a_partition_that_moves_in_order_leaves_nobody_under_suspicion() {
    let mut world = World::new(vec![vec![0; 20], vec![0; 20], vec![0; 20]], BTreeSet::new());
    world.begin(0);
    for partition in 0..3 {
        world.hand_over(partition);
    }
    assert!(world.members.iter().all(|m| m.watch.is_quiet()));
}

#[test]
fn a_note_that_cannot_be_read_is_one_all_the_same() {
    let mut watch = Watch::new("me".to_owned(), WINDOW);
    watch.claim(&[1]);
    let said = Entries::from([
        ("older/1".to_owned(), "{\"new\":true}".to_owned()),
        ("older/2".to_owned(), String::new()),
    ]);
    let changes = watch.learn(&[1], &said);
    assert!(changes.contains(&Change::Remove("older/1".to_owned())) && !changes.contains(&Change::Remove("older/2".to_owned())));
    watch.record(1, 40);
    assert!(watch.is_suspect(1, 40) && !watch.is_quiet());
}

#[test]
fn what_waits_for_something_that_is_away_holds_nobody_up_unless_it_is_condemned() {
    let mut watch = Watch::new("me".to_owned(), WINDOW);
    watch.claim(&[0]);
    let said = Entries::from([
        ("older/0".to_owned(), "{\"flight\":\"any\",\"suspects\":\"none\"}".to_owned()),
        ("0@7".to_owned(), DEATHS.to_string()),
    ]);
    watch.learn(&[0], &said);
    for offset in [5, 7] {
        watch.record(0, offset);
        watch.back(0, offset, Came::Unavailable);
    }
    assert!(!watch.is_suspect(0, 5) && watch.is_suspect(0, 7));
}
