//! Every run ends by its deadline plus one second, whatever a target, a filesystem or the engine does.
//!
//! Probes have limits of their own, and the engine ends a run at its deadline. Both need a thread that runs: one that the kernel holds, or
//! that is caught in a loop, keeps no limit. The watchdog is a thread that does nothing but wait. When a limit has passed it takes
//! standard output away from the run, has another thread make and print a report of what is known so far, and ends the process. When
//! that does not end either, it prints one line and ends the process all the same.
//!
//! | after the deadline | |
//! |---|---|
//! | 0.25 s | the run has not ended: a report of what is known is made and printed |
//! | 0.65 s | that is not done: a report that holds only the reason is printed |
//! | 0.8 s | the process exits, also when standard output takes nothing |
//!
//! A process that ends is still held by a thread in an uninterruptible wait (state `D`, a disk that does not answer): the output is
//! complete by then.

pub mod memory;
mod stdout;

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use opsctl_core::model::quantity;
use opsctl_core::probe::{lag, panics};
use rustix::process::{Signal, getpid, kill_process};

use crate::engine::Missed;

pub use stdout::print;

/// How long after its limit a run has not ended by itself.
const FIRST: Duration = Duration::from_millis(250);

/// How long after that the report of what is known has to be made.
const MAKING: Duration = Duration::from_millis(400);

/// How long after that the process exits.
const WRITING: Duration = Duration::from_millis(150);

/// A terminal that takes a report slowly (a serial console) is waited for while it takes something, at most so long.
const SLOW_TERMINAL: Duration = Duration::from_secs(60);

/// How long an exit may take before the process is killed.
const EXIT_TIMEOUT: Duration = Duration::from_millis(500);

/// Exit code of a run about which nothing is known.
const UNKNOWN: u8 = 3;

/// What was not done in time.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// What was being done.
    pub phase: String,
    /// How long it was given.
    pub limit: Duration,
    /// The exit code that this phase has for it.
    pub code: Option<u8>,
    /// The limit of its memory that the process has reached, in bytes.
    pub memory: Option<u64>,
}

impl Overdue {
    /// What ends the run, for its report.
    #[must_use]
    pub fn missed(&self) -> Missed {
        self.memory.map_or(Missed::Deadline(self.limit), Missed::Memory)
    }

    /// `the diagnosis did not finish by its deadline (10 s)`
    #[must_use]
    pub fn words(&self) -> String {
        let Self { phase, limit, memory, .. } = self;
        if let Some(memory) = memory {
            return format!("{phase} was ended: opsctl reached its memory limit ({})", quantity::bytes(*memory));
        }
        format!("{phase} did not finish by its deadline ({})", quantity::duration((*limit).try_into().unwrap_or_default()))
    }
}

/// What is printed at the end.
pub struct Output {
    /// On standard output.
    pub stdout: String,
    /// The exit code.
    pub code: u8,
    /// What is written besides, each on a thread of its own.
    pub then: Vec<Box<dyn FnOnce() + Send>>,
}

type Make = Box<dyn FnOnce(&Overdue) -> Output + Send>;

/// How a run ends that does not end by itself.
pub struct Ending {
    /// Makes the output from what is known.
    make: Make,
    /// Makes the output when `make` does not end: from nothing but the reason.
    minimal: Make,
    /// How long `make` may take.
    patience: Duration,
}

impl Ending {
    /// One that is made from what is known, or from nothing but the reason.
    pub fn new(
        make: impl FnOnce(&Overdue) -> Output + Send + 'static,
        minimal: impl FnOnce(&Overdue) -> Output + Send + 'static,
    ) -> Self {
        Self { make: Box::new(make), minimal: Box::new(minimal), patience: MAKING }
    }

    /// One that takes longer than a run may take beyond its deadline.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// One line.
    pub fn line(text: impl Fn(&Overdue) -> (String, u8) + Clone + Send + 'static) -> Self {
        let output = move |overdue: &Overdue| {
            let (line, code) = text(overdue);
            Output { stdout: line + "\n", code, then: Vec::new() }
        };
        Self::new(output.clone(), output)
    }
}

/// Who has standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Holder {
    Free,
    Run,
    Watchdog,
    Report,
    Minimal,
}

/// What has to be done by when.
#[derive(Debug, Clone)]
struct Armed {
    until: Instant,
    overdue: Overdue,
}

#[derive(Default)]
struct State {
    armed: Option<Armed>,
    ending: Option<Ending>,
}

struct Shared {
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
    output: AtomicU8,
    code: AtomicU8,
    /// What `Ending::make` has made is printed.
    done: Mutex<bool>,
    is_done: Condvar,
    /// How often something was written to standard output.
    written: AtomicU64,
    /// The thread that makes the last report, and the one of the watchdog.
    last: AtomicI32,
    watchdog: AtomicI32,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// Whether an allocation has failed; beside [`SHARED`], because the allocator has to find it without asking for memory.
static OUT_OF_MEMORY: AtomicBool = AtomicBool::new(false);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the watchdog of this process. It does nothing before a limit is set.
pub fn start() -> std::io::Result<()> {
    let shared = SHARED.get_or_init(|| Shared {
        began: Instant::now(),
        state: Mutex::default(),
        changed: Condvar::new(),
        output: AtomicU8::new(Holder::Free as u8),
        code: AtomicU8::new(UNKNOWN),
        done: Mutex::new(false),
        is_done: Condvar::new(),
        written: AtomicU64::new(0),
        last: AtomicI32::new(0),
        watchdog: AtomicI32::new(0),
    });
    let (send, receive) = sync_channel(1);
    thread::Builder::new().name("last-report".to_owned()).spawn(move || shared.make_last(&receive))?;
    thread::Builder::new().name("watchdog".to_owned()).stack_size(256 << 10).spawn(move || shared.watch(&send))?;
    Ok(())
}

/// When this process began, as far as deadlines are concerned.
#[must_use]
pub fn began() -> Instant {
    SHARED.get().map_or_else(Instant::now, |shared| shared.began)
}

/// From now on a run that is overdue ends like this.
pub fn on_overdue(ending: Ending) {
    if let Some(shared) = SHARED.get() {
        // dropped without the lock
        let _before = lock(&shared.state).ending.replace(ending);
    }
}

/// From now on the process exits with this code when standard output takes nothing more. A report that was not delivered is no success.
pub fn exit_code(code: u8) {
    let code = if code == 0 { UNKNOWN } else { code };
    if let Some(shared) = SHARED.get() {
        shared.code.store(code, Ordering::Relaxed);
    }
}

/// Bounds what is done while it lives. An outer limit that is earlier stays.
#[must_use]
pub struct Limit {
    outer: Option<Armed>,
}

/// Bounds `phase`: it ends at `began` plus `limit`, or the process does.
pub fn within(phase: &str, began: Instant, limit: Duration, code: Option<u8>) -> Limit {
    let Some(shared) = SHARED.get() else { return Limit { outer: None } };
    let overdue = Overdue { phase: phase.to_owned(), limit, code, memory: None };
    let new = Armed { until: began + limit, overdue };
    let mut state = lock(&shared.state);
    let outer = state.armed.clone();
    if outer.as_ref().is_none_or(|outer| new.until < outer.until) {
        state.armed = Some(new);
    }
    drop(state);
    shared.changed.notify_all();
    Limit { outer }
}

/// Bounds `phase` from now on.
pub fn for_now(phase: &str, limit: Duration, code: Option<u8>) -> Limit {
    within(phase, Instant::now(), limit, code)
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(shared) = SHARED.get() {
            lock(&shared.state).armed = self.outer.take();
            shared.changed.notify_all();
        }
    }
}

/// Takes standard output for the run. When the watchdog has it, the process is about to end, and this does not return.
fn claim() {
    let Some(shared) = SHARED.get() else { return };
    if !shared.take_output(Holder::Free, Holder::Run) && shared.output.load(Ordering::SeqCst) != Holder::Run as u8 {
        park();
    }
}

/// Something was written to standard output.
fn wrote() {
    if let Some(shared) = SHARED.get() {
        shared.written.fetch_add(1, Ordering::Relaxed);
    }
}

fn this_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

fn park() -> ! {
    loop {
        thread::park();
    }
}

impl Shared {
    fn take_output(&self, from: Holder, to: Holder) -> bool {
        self.output.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Waits until something is overdue.
    fn wait(&self) -> (Armed, Option<Ending>) {
        let mut state = lock(&self.state);
        loop {
            if OUT_OF_MEMORY.load(Ordering::SeqCst) {
                let memory = Some(memory::reached());
                // the texts below need some
                memory::lift();
                let overdue = match state.armed.take() {
                    Some(armed) => Overdue { memory, ..armed.overdue },
                    None => Overdue { phase: "opsctl".to_owned(), limit: Duration::ZERO, code: None, memory },
                };
                return (Armed { until: Instant::now(), overdue }, state.ending.take());
            }
            let left = match &state.armed {
                Some(armed) => (armed.until + FIRST).saturating_duration_since(Instant::now()).min(memory::LOOK),
                None => memory::LOOK,
            };
            if left.is_zero()
                && let Some(armed) = state.armed.take()
            {
                return (armed, state.ending.take());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The thread of the watchdog. It neither reads nor writes, so that nothing can hold it.
    fn watch(&self, last: &SyncSender<(Make, Overdue)>) -> ! {
        self.watchdog.store(this_thread(), Ordering::Relaxed);
        lag::Priority::raise_for_good();
        let (armed, ending) = self.wait();
        let Armed { until, overdue } = armed;
        let due = if overdue.memory.is_some() { until } else { until + FIRST };
        if !self.take_output(Holder::Free, Holder::Watchdog) {
            // the report is being written, or is written and something else is not done
            self.wait_for_writer(due + MAKING);
            let text = format!("opsctl: {}\n", overdue.words());
            in_a_moment(move || {
                let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            });
            exit(self.code.load(Ordering::Relaxed));
        }
        let Some(Ending { make, minimal, patience }) = ending else {
            let text = format!("opsctl: {}\n", overdue.words());
            in_a_moment(move || stdout::raw(&text));
            exit(overdue.code.unwrap_or(UNKNOWN));
        };
        // what they do now is of no use
        lag::give_way();
        if last.try_send((make, overdue.clone())).is_ok() && self.is_done_by(due + patience) {
            exit(self.code.load(Ordering::Relaxed));
        }
        if self.take_output(Holder::Watchdog, Holder::Minimal) {
            let Output { stdout, code, .. } = minimal(&overdue);
            in_a_moment(move || stdout::raw(&stdout));
            exit(code);
        }
        // it was made, and is being written
        self.is_done_by(due + patience + WRITING);
        exit(self.code.load(Ordering::Relaxed));
    }

    /// The thread that makes and prints the report of what is known.
    fn make_last(&self, work: &Receiver<(Make, Overdue)>) {
        self.last.store(this_thread(), Ordering::Relaxed);
        lag::Priority::raise_for_good();
        let Ok((make, overdue)) = work.recv() else { return };
        // a panic is as good as no end
        let Ok(output) = panics::caught(|| make(&overdue)) else { return };
        if !self.take_output(Holder::Watchdog, Holder::Report) {
            return;
        }
        self.code.store(output.code, Ordering::Relaxed);
        clear_progress();
        stdout::raw(&output.stdout);
        let running: Vec<_> = output.then.into_iter().filter_map(|then| thread::Builder::new().spawn(then).ok()).collect();
        for thread in running {
            let _ = thread.join();
        }
        *lock(&self.done) = true;
        self.is_done.notify_all();
    }

    /// Whether the thread that calls this is one of those that end the process.
    fn ends_the_process(&self) -> bool {
        [&self.last, &self.watchdog].iter().any(|thread| thread.load(Ordering::Relaxed) == this_thread())
    }

    fn is_done_by(&self, until: Instant) -> bool {
        let mut done = lock(&self.done);
        while !*done {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            done = self.is_done.wait_timeout(done, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits until then, and longer for a terminal that takes something.
    fn wait_for_writer(&self, until: Instant) {
        thread::sleep(until.saturating_duration_since(Instant::now()));
        if !std::io::stdout().is_terminal() {
            return;
        }
        while Instant::now() < until + SLOW_TERMINAL {
            let before = self.written.load(Ordering::Relaxed);
            thread::sleep(Duration::from_secs(1));
            if self.written.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// Runs something on a thread, so that it may hang, and waits a moment for it.
fn in_a_moment(run: impl FnOnce() + Send + 'static) {
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    let signal = done.clone();
    let started = thread::Builder::new().stack_size(256 << 10).spawn(move || {
        run();
        *lock(&signal.0) = true;
        signal.1.notify_all();
    });
    if started.is_ok() {
        let guard = lock(&done.0);
        let _ = done.1.wait_timeout_while(guard, WRITING, |done| !*done);
    }
}

/// Removes the line of progress, if there is one.
fn clear_progress() {
    if std::io::stderr().is_terminal() {
        let _ = rustix::io::write(rustix::stdio::stderr(), b"\r\x1b[K");
    }
}

/// Ends the process. What runs at exit must not hold it.
fn exit(code: u8) -> ! {
    let _ = thread::Builder::new().stack_size(64 << 10).spawn(|| {
        thread::sleep(EXIT_TIMEOUT);
        let _ = kill_process(getpid(), Signal::KILL);
    });
    std::process::exit(code.into())
}
