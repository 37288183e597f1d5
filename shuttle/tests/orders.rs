//! Many orders of steps: memory never passes its bound, no request is forgotten, each job is done once.

use rechunkfs_shuttle::Queue;
use rechunkfs_shuttle::cache::{Cache, Ticket};
use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;
use std::collections::HashMap;

const CAPACITY: u64 = 100;

type Entries = Cache<u32, Arc<Ticket>>;

/// `RECHUNKFS_TEST_CASES` orders, or as many as are usual.
fn check(usual: usize, test: impl Fn() + Send + Sync + 'static) {
    let n = std::env::var("RECHUNKFS_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    shuttle::check_random(test, n);
}

/// Waits for memory as a builder does: never while it holds any.
fn take(cache: &Arc<Entries>, bytes: u64) -> Ticket {
    let granted = Arc::new((Mutex::new(None), Condvar::new()));
    let grant = Arc::clone(&granted);
    cache.request(bytes, move |ticket| {
        *grant.0.lock().expect("no panic") = Some(ticket);
        grant.1.notify_one();
    });
    let mut slot = granted.0.lock().expect("no panic");
    loop {
        match slot.take() {
            Some(ticket) => return ticket,
            // A request that is forgotten is a deadlock here, which the scheduler sees.
            None => slot = granted.1.wait(slot).expect("no panic"),
        }
    }
}

#[test]
fn memory_stays_within_its_bound_and_everybody_is_granted_in_the_end() {
    check(3_000, || {
        let cache = Entries::new(CAPACITY);
        let held = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..4u32)
            .map(|nth| {
                let (cache, held) = (Arc::clone(&cache), Arc::clone(&held));
                thread::spawn(move || {
                    for round in 0..2 {
                        let bytes = [30, 45, 60, 85][nth as usize];
                        let mut ticket = take(&cache, bytes);
                        assert!(held.fetch_add(bytes, SeqCst) + bytes <= CAPACITY, "more is held than there is");
                        let part = ticket.split(bytes / 3);
                        thread::yield_now();
                        held.fetch_sub(bytes, SeqCst);
                        drop(part);
                        // An entry makes room when others need it, unless somebody reads it.
                        cache.insert(nth * 2 + round, Arc::new(ticket));
                        let read = cache.get(&(nth * 2));
                        thread::yield_now();
                        drop(read);
                        assert!(cache.usage().used_bytes <= CAPACITY);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let usage = cache.usage();
        assert_eq!(usage.waiting, 0);
        assert_eq!(cache.try_request(CAPACITY).expect("entries make room for all of it").bytes(), CAPACITY);
    });
}

#[test]
fn who_only_tries_neither_waits_nor_keeps_others_waiting() {
    check(3_000, || {
        let cache = Entries::new(CAPACITY);
        let threads: Vec<_> = (0..3)
            .map(|nth| {
                let cache = Arc::clone(&cache);
                thread::spawn(move || match nth {
                    0 => drop(cache.try_request(70)),
                    _ => drop(take(&cache, 80)),
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!((cache.usage().used_bytes, cache.usage().waiting), (0, 0));
    });
}

/// One builder for each tile that is missing, however many ask for it, by the means of the view: an entry that is kept before its
/// flight ends, and a second look after it began.
#[test]
fn what_several_ask_for_is_built_once() {
    check(3_000, || {
        let cache = Entries::new(CAPACITY);
        let queue = Arc::new(Queue::start());
        let flights: Arc<Mutex<HashMap<u32, Vec<shuttle::sync::mpsc::Sender<()>>>>> = Arc::default();
        let built = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (cache, queue) = (Arc::clone(&cache), Arc::clone(&queue));
                let (flights, built) = (Arc::clone(&flights), Arc::clone(&built));
                thread::spawn(move || {
                    if cache.get(&7).is_some() {
                        return;
                    }
                    let (send, landed) = shuttle::sync::mpsc::channel();
                    let is_mine = {
                        let mut flights = flights.lock().expect("no panic");
                        let parked = flights.entry(7).or_default();
                        parked.push(send);
                        parked.len() == 1
                    };
                    if is_mine {
                        let land = {
                            let flights = Arc::clone(&flights);
                            move || {
                                let parked = flights.lock().expect("no panic").remove(&7).unwrap_or_default();
                                parked.into_iter().for_each(|reader| {
                                    let _ = reader.send(());
                                });
                            }
                        };
                        if cache.get(&7).is_some() {
                            land();
                        } else {
                            let (cache, builders) = (Arc::clone(&cache), Arc::clone(&queue));
                            let request = Arc::clone(&cache);
                            request.request(60, move |ticket| {
                                builders.submit(move || {
                                    built.fetch_add(1, SeqCst);
                                    cache.insert(7, Arc::new(ticket));
                                    land();
                                });
                            });
                        }
                    }
                    landed.recv().expect("an answer");
                    assert!(cache.get(&7).is_some());
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
        assert_eq!(built.load(SeqCst), 1);
    });
}

#[test]
fn each_job_is_done_once_whoever_comes_and_goes() {
    check(2_000, || {
        let queue = Queue::start();
        let done = Arc::new(AtomicUsize::new(0));
        let (send, receive) = shuttle::sync::mpsc::channel();
        for nth in 0..4 {
            let (done, send) = (Arc::clone(&done), send.clone());
            // Somebody hangs, and returns.
            queue.set_extra(nth % 2);
            let job = move || {
                done.fetch_add(1, SeqCst);
                let _ = send.send(());
            };
            match nth % 2 {
                0 => queue.submit(job),
                _ => queue.submit_likely(job),
            }
        }
        (0..4).for_each(|_| receive.recv().expect("a job is done"));
        assert_eq!(done.load(SeqCst), 4);
    });
}
