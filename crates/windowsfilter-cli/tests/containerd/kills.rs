//! Either daemon dies in the middle, as when memory runs out: what was whole stays whole, what was begun can
//! be done again, and nothing is left over.
//!
//! The points at which they die follow from a seed, which is printed; `WINDOWSFILTER_SEED` sets it,
//! `WINDOWSFILTER_KILLS` sets how often each daemon dies in each test.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::compare::{Seen, assert_same};
use super::images::Image;
use super::process::{Running, run};
use super::pull::{seen_through_containerd, seen_without_containerd};
use super::restarts::reconnect;
use super::rig::{Mode, Rig};
use super::tools::Version;
use super::wait;

with_each_containerd!(
    an_import_can_be_repeated_after_a_daemon_died_in_it,
    a_change_can_be_repeated_after_a_daemon_died_in_it,
    a_removal_is_completed_after_a_daemon_died_in_it,
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Server,
    Containerd,
}

/// A rig whose daemons die.
struct Story {
    rig: Rig,
    image: Image,
    expected: BTreeMap<String, Seen>,
    random: u64,
}

impl Story {
    fn begin(version: Version) -> Self {
        let rig = Rig::start(version);
        let image = Image::sample(&rig.path("images"), "win", 1500, 4);
        let expected = seen_without_containerd(&rig, &image);
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("WINDOWSFILTER_SEED").map_or_else(|_| now(), |text| text.parse().unwrap());
        println!("WINDOWSFILTER_SEED={seed}");
        Self { rig, image, expected, random: seed }
    }

    /// A number below `limit`. Source: SplitMix64.
    fn random(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// Has each daemon die several times in what `begin` starts, at a point within the time it takes
    /// undisturbed; `finish` then does what there is to do after the restart, and undoes all.
    fn kill_in(
        &mut self,
        prepare: impl Fn(&mut Self),
        begin: impl Fn(&Self) -> Running,
        finish: impl Fn(&Self),
    ) {
        prepare(self);
        let start = Instant::now();
        begin(self).end().success();
        let whole = start.elapsed();
        finish(self);
        let kills = std::env::var("WINDOWSFILTER_KILLS").map_or(3, |text| text.parse().unwrap());
        for kill in 0..kills {
            for victim in [Victim::Server, Victim::Containerd] {
                prepare(self);
                let point = Duration::from_micros(self.random(whole.as_micros() as u64));
                println!("{victim:?}, {kill}: after {point:?} of {whole:?}");
                let running = begin(self);
                // Not to wait for anything: this is the random point.
                std::thread::sleep(point);
                self.die_and_return(victim);
                let ended = running.end();
                println!("  {}: {}", ended.status, ended.stderr.trim_end());
                finish(self);
            }
        }
    }

    fn die_and_return(&mut self, victim: Victim) {
        match victim {
            Victim::Server => {
                self.rig.kill_server();
                self.rig.start_server();
            }
            Victim::Containerd => {
                self.rig.kill_containerd();
                self.rig.start_containerd();
            }
        }
        reconnect(&self.rig);
    }

    fn import(&self, mode: Mode) {
        wait::until("import after the restart", || {
            let ended = self.rig.import(&self.image.archive, mode).end();
            if ended.status.success() { Ok(()) } else { Err(ended.failure()) }
        });
    }

    /// What a client that was cut off has left is held by its leases until they expire: they end now. A
    /// containerd that was cut off in the middle of its garbage collection has forgotten that it was at ours,
    /// until a snapshot of ours is removed again.
    fn clean_up(&self) {
        self.rig.snapshots(&["prepare", "forgotten", ""]);
        self.rig.snapshots(&["rm", "forgotten"]);
        for lease in self.rig.ok(&["leases", "ls", "-q"]).lines() {
            self.rig.ok(&["leases", "rm", lease]);
        }
        self.rig.remove_everything();
    }
}

fn an_import_can_be_repeated_after_a_daemon_died_in_it(version: Version) {
    for mode in Mode::BOTH {
        let mut story = Story::begin(version);
        story.kill_in(
            |_| (),
            |story| story.rig.import(&story.image.archive, mode),
            |story| {
                story.import(mode);
                let seen = seen_through_containerd(&story.rig, &story.image.reference);
                assert_same(&story.expected, &seen, "after the restart");
                story.clean_up();
            },
        );
    }
}

/// From an image to a committed change of it, as a shell does it.
const CHANGE: &str = r#"
$snapshots prepare "$key" "$top"
$snapshots mounts "$mnt" "$key" > "$mnt.sh"
mkdir -p "$mnt"
sh -eu "$mnt.sh"
head -c 3000000 /dev/zero > "$mnt/zeros"
rm -r "$mnt/Windows/System32"
sync "$mnt/zeros"
umount "$mnt"
$snapshots diff "$key" > "$mnt.diff"
$snapshots commit "$key-committed" "$key"
"#;

fn a_change_can_be_repeated_after_a_daemon_died_in_it(version: Version) {
    let mut story = Story::begin(version);
    let change = |story: &Story, key: &str| {
        let mut command = Command::new("sh");
        let snapshots = format!("{:?}", story.rig.ctr_snapshots(&[])).replace('"', "");
        command.args(["-euc", CHANGE]).env("snapshots", snapshots).env("key", key);
        command.env("top", story.image.top()).env("mnt", story.rig.path(key));
        Running::start(&mut command)
    };
    story.kill_in(
        |story| story.import(Mode::Client),
        |story| change(story, "first"),
        |story| {
            _ = run(Command::new("umount").arg(story.rig.path("first")));
            // The image has not suffered, and the same can be done on it again.
            change(story, "second").end().success();
            let view = story.rig.path("view");
            story.rig.prepare("look", "second-committed", &view);
            assert_eq!(fs::metadata(view.join("zeros")).unwrap().len(), 3_000_000);
            assert!(!view.join("Windows/System32").exists() && view.join("Windows").exists());
            story.rig.unmount(&view);
            story.rig.snapshots(&["rm", "look"]);
            let seen = seen_through_containerd(&story.rig, &story.image.reference);
            assert_same(&story.expected, &seen, "the image after the restart");
            for key in ["first", "first-committed", "second-committed"] {
                _ = run(&mut story.rig.ctr_snapshots(&["rm", key]));
            }
            story.clean_up();
        },
    );
}

fn a_removal_is_completed_after_a_daemon_died_in_it(version: Version) {
    let mut story = Story::begin(version);
    story.kill_in(
        |story| {
            story.import(Mode::Client);
            story.rig.snapshots(&["prepare", "box", &story.image.top()]);
            story.rig.snapshots(&["rm", "box"]);
        },
        |story| Running::start(&mut story.rig.ctr(&["images", "rm", "--sync", &story.image.reference])),
        Story::clean_up,
    );
}
