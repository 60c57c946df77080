//! The host is ended for the night, and reading commands in the morning start no host.

use super::{Day, NIGHT, agents, shell::Shell};

impl Day {
    pub(super) fn sleeps(self) -> Self {
        let Self {
            shell,
            world,
            mut clock,
        } = self;
        shell.types("claudine down").has(&["host ended"]);
        shell.leaves();
        clock.pass(NIGHT);
        world.api.set_script(agents::next_day());
        let shell = Shell::open(&world.host);
        let list = shell.types("claudine list");
        list.fits()
            .has(&["no host is running (claudine up)"])
            .row_has("rename", &["✗ failed", "yesterday 16:"])
            .row_has("slow", &["✓ succeeded", "yesterday 16:"])
            .row_has("review", &["waiting"]);
        let why = shell.types("claudine why review");
        why.fits().says(&[
            "Claude usage limit ended at 02:01 (6h",
            "no host is running, and nothing starts without one; `claudine up` starts a host",
        ]);
        assert_eq!(
            world.host.host_pid(),
            None,
            "a reading command started a host\n{list}"
        );
        Self {
            shell,
            world,
            clock,
        }
    }
}
