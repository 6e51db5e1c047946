//! Counters against numbers worked out by hand, and the waste that they are there to show.

use onward_emulator::{Build, Emulator, LaunchCounters, SCHEDULES};

use crate::{PLAIN, launch, ramp};

/// The counters of one launch.
fn count(kernel: &str, shape: [u32; 3], n_in: usize, n_out: usize) -> LaunchCounters {
    let emulator = Emulator::faults(Build::Counted).unwrap();
    emulator.set_schedule(PLAIN.0, PLAIN.1);
    emulator.take_counters();
    launch(&emulator, kernel, shape, &ramp(n_in), n_out).unwrap();
    let mut launches = emulator.take_counters();
    assert_eq!(launches.len(), 1);
    println!("{kernel}: {}", launches[0].totals);
    launches.remove(0)
}

/// 1024 values by 8 blocks of 4 warps: 32 requests of 128 bytes each way.
#[test]
fn a_coalesced_copy() {
    let counters = count("copy_coalesced", [8, 128, 0], 1024, 1024);
    let totals = counters.totals;
    assert_eq!(totals.global_loads, [0, 0, 32, 0, 0]);
    assert_eq!(totals.global_stores, [0, 0, 32, 0, 0]);
    for traffic in [totals.read, totals.written] {
        assert_eq!(traffic.requests, 32);
        assert_eq!(traffic.bytes, 4096);
        assert_eq!((traffic.sectors, traffic.least_sectors), (128, 128));
        assert_eq!(traffic.coalescing(), 1.0);
    }
    assert_eq!((totals.memory_read, totals.memory_written), (4096, 4096));
    assert_eq!(
        counters.worst_coalesced().unwrap().traffic.coalescing(),
        1.0
    );
}

/// Each lane's 4 bytes lie in a sector of their own. The cache holds the 4096 bytes, so memory is
/// read once all the same.
#[test]
fn a_strided_copy_is_seen_and_located() {
    let counters = count("copy_strided", [8, 128, 0], 1024, 1024);
    let totals = counters.totals;
    assert_eq!(
        (totals.read.sectors, totals.read.least_sectors),
        (1024, 128)
    );
    assert_eq!(totals.written.coalescing(), 1.0);
    assert_eq!(totals.memory_read, 4096);
    let worst = counters.worst_coalesced().unwrap();
    assert_eq!(worst.traffic.coalescing(), 0.125);
    let place = Emulator::faults(Build::Counted).unwrap().locate(worst);
    assert!(place.contains("faults/traffic.cu:"), "{place}");
}

/// 16 bytes a lane are one request, and 16 sectors of a warp.
#[test]
fn wide_accesses_are_one_request() {
    let totals = count("copy_packs", [2, 128, 0], 1024, 1024).totals;
    assert_eq!(totals.global_loads, [0, 0, 0, 0, 8]);
    assert_eq!(totals.global_stores, [0, 0, 0, 0, 8]);
    assert_eq!((totals.read.sectors, totals.read.least_sectors), (128, 128));
}

/// 1 MiB goes past a cache of 256 KiB: the second reading comes from memory again, but for what
/// the cache still holds. 64 KiB stay in it.
#[test]
fn weights_that_are_read_twice_are_seen() {
    const MIB: u64 = 1 << 20;
    let read = |kernel, bytes: u64| {
        let totals = count(kernel, [1, 128, 0], bytes as usize / 4, 128).totals;
        assert_eq!(totals.memory_written, 512);
        totals.memory_read
    };
    assert_eq!(read("weights_once", MIB), MIB);
    let twice = read("weights_twice", MIB);
    assert!((2 * MIB - MIB / 4..=2 * MIB).contains(&twice), "{twice}");
    assert_eq!(read("weights_twice", MIB / 16), MIB / 16);
}

/// Each of the 32 columns is one request: 32 passes in rows of 32 words, one in rows of 33. The
/// rows' stores are 32 passes either way.
#[test]
fn bank_conflicts_are_seen() {
    let totals = count("banks_conflict", [1, 128, 0], 1024, 1024).totals;
    assert_eq!(totals.shared_loads, [0, 0, 32, 0, 0]);
    assert_eq!(totals.shared_stores, [0, 0, 32, 0, 0]);
    assert_eq!(totals.shared.wavefronts, 32 + 32 * 32);
    assert_eq!(totals.shared.least_wavefronts, 64);
    let counters = count("banks_padded", [1, 128, 0], 1024, 1024);
    assert_eq!(counters.totals.shared.wavefronts, 64);
    assert_eq!(
        counters.worst_in_banks().unwrap().traffic.bank_efficiency(),
        1.0
    );
}

/// 512 bytes come by one copy of a warp: 4 passes into shared memory, and 4 more for the four
/// matrices. All lanes add to one value: one sector, whether read or written.
#[test]
fn instructions_are_counted_by_class() {
    let totals = count("one_of_each", [1, 32, 512], 128, 1).totals;
    assert_eq!(totals.async_copies, 1);
    assert_eq!((totals.read.bytes, totals.read.sectors), (512, 16));
    assert_eq!(totals.shared.wavefronts, 8);
    assert_eq!((totals.ldmatrix, totals.mma, totals.exchanges), (1, 1, 2));
    assert_eq!((totals.barriers, totals.atomics), (1, 1));
    assert_eq!((totals.memory_read, totals.memory_written), (512, 32));
    assert_eq!(totals.global_loads, [0; 5]);
    assert_eq!(totals.shared_loads, [0; 5]);
}

/// What is counted does not depend on the order in which threads run.
#[test]
fn counters_are_the_same_in_every_order() {
    let emulator = Emulator::faults(Build::Counted).unwrap();
    let all = SCHEDULES.map(|(order, copies)| {
        emulator.set_schedule(order, copies);
        for kernel in ["copy_strided", "copy_packs"] {
            launch(&emulator, kernel, [2, 128, 0], &ramp(1024), 1024).unwrap();
        }
        let launches = emulator.take_counters();
        launches
            .iter()
            .map(|launch| launch.totals)
            .collect::<Vec<_>>()
    });
    assert!(all.iter().all(|totals| totals == &all[0]), "{all:?}");
}
