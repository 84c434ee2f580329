//! Deadline of every run: the process exits one second after its deadline at the latest, regardless of targets, filesystems and
//! the engine.
//!
//! Probes have their own limits, and the engine ends a run at its deadline. Both need a running thread: one that is blocked in
//! the kernel or caught in a loop enforces no limit. The watchdog is a thread that only waits. After a limit it takes over
//! standard output, lets another thread create and print a report of the results so far, and ends the process. If that does not
//! complete either, it prints one line and ends the process.
//!
//! | after the deadline | |
//! |---|---|
//! | 0.25 s | the run has not ended: a report of the results so far is created and printed |
//! | 0.65 s | the report is not complete: a report with only the reason is printed |
//! | 0.8 s | the process exits, even if standard output is blocked |
//!
//! A thread in an uninterruptible wait (state `D`, a disk that does not respond) can still delay the exit: the output is complete
//! by then.

mod exceeded;
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

pub use exceeded::ExceededLimit;
pub use stdout::print;

/// Delay after a limit before the watchdog acts.
const GRACE_PERIOD: Duration = Duration::from_millis(250);

/// Time limit of creating the report of the results so far.
const REPORT_TIMEOUT: Duration = Duration::from_millis(400);

/// Time limit of writing it before the process exits.
const WRITE_TIMEOUT: Duration = Duration::from_millis(150);

/// Maximum wait for a slow terminal (a serial console) that still accepts output.
const SLOW_TERMINAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit of an exit before the process is killed.
const EXIT_TIMEOUT: Duration = Duration::from_millis(500);

/// Exit code of a run without results.
const UNKNOWN: u8 = 3;

/// An exceeded limit.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// The exceeded phase.
    pub phase: String,
    /// Its time limit.
    pub limit: Duration,
    /// The exit code of this phase for it.
    pub code: Option<u8>,
    /// The memory limit that was reached, in bytes.
    pub memory: Option<u64>,
}

impl Overdue {
    /// The reason for the end of the run, for its report.
    #[must_use]
    pub fn missed(&self) -> ExceededLimit {
        self.memory.map_or(ExceededLimit::Deadline(self.limit), ExceededLimit::Memory)
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

/// The last output.
pub struct Output {
    /// Text for standard output.
    pub stdout: String,
    /// The exit code.
    pub code: u8,
    /// Further writes, each on its own thread.
    pub then: Vec<Box<dyn FnOnce() + Send>>,
}

type Make = Box<dyn FnOnce(&Overdue) -> Output + Send>;

/// The output of a run that does not end by itself.
pub struct Ending {
    /// Creates the output from the results so far.
    make: Make,
    /// Creates the output if `make` does not complete: from the reason alone.
    minimal: Make,
    /// Time limit of `make`.
    time_limit: Duration,
}

impl Ending {
    /// An ending from the results so far, with a fallback from the reason alone.
    pub fn new(
        make: impl FnOnce(&Overdue) -> Output + Send + 'static,
        minimal: impl FnOnce(&Overdue) -> Output + Send + 'static,
    ) -> Self {
        Self { make: Box::new(make), minimal: Box::new(minimal), time_limit: REPORT_TIMEOUT }
    }

    /// Sets a longer time limit than the default.
    #[must_use]
    pub fn time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// An ending of one line.
    pub fn line(text: impl Fn(&Overdue) -> (String, u8) + Clone + Send + 'static) -> Self {
        let output = move |overdue: &Overdue| {
            let (line, code) = text(overdue);
            Output { stdout: line + "\n", code, then: Vec::new() }
        };
        Self::new(output.clone(), output)
    }
}

/// Holder of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Holder {
    Free,
    Run,
    Watchdog,
    Report,
    Minimal,
}

/// An armed limit.
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
    /// Whether the output of `Ending::make` is printed.
    done: Mutex<bool>,
    is_done: Condvar,
    /// Number of writes to standard output.
    written: AtomicU64,
    /// The thread of the last report, and that of the watchdog.
    last: AtomicI32,
    watchdog: AtomicI32,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// Whether an allocation has failed; outside [`SHARED`], because the allocator must find it without allocating.
static OUT_OF_MEMORY: AtomicBool = AtomicBool::new(false);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the watchdog of this process. It is idle until a limit is set.
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

/// Start of this process for deadlines.
#[must_use]
pub fn began() -> Instant {
    SHARED.get().map_or_else(Instant::now, |shared| shared.began)
}

/// Sets the ending of an overdue run.
pub fn on_overdue(ending: Ending) {
    if let Some(shared) = SHARED.get() {
        // dropped outside the lock
        let _before = lock(&shared.state).ending.replace(ending);
    }
}

/// Sets the exit code for a blocked standard output. A report that was not delivered is not a success.
pub fn exit_code(code: u8) {
    let code = if code == 0 { UNKNOWN } else { code };
    if let Some(shared) = SHARED.get() {
        shared.code.store(code, Ordering::Relaxed);
    }
}

/// Limits a phase while it exists. An earlier outer limit stays in force.
#[must_use]
pub struct Limit {
    outer: Option<Armed>,
}

/// Limits `phase`: it ends at `began` plus `limit`, or the process exits.
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

/// Limits `phase` from now on.
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

/// Claims standard output for the run. If the watchdog holds it, the process is about to end, and this function does not return.
fn claim() {
    let Some(shared) = SHARED.get() else { return };
    if !shared.take_output(Holder::Free, Holder::Run) && shared.output.load(Ordering::SeqCst) != Holder::Run as u8 {
        park();
    }
}

/// Counts a write to standard output.
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

    /// Waits until a limit is exceeded.
    fn wait(&self) -> (Armed, Option<Ending>) {
        let mut state = lock(&self.state);
        loop {
            if OUT_OF_MEMORY.load(Ordering::SeqCst) {
                let memory = Some(memory::reached());
                // the strings below need some
                memory::lift();
                let overdue = match state.armed.take() {
                    Some(armed) => Overdue { memory, ..armed.overdue },
                    None => Overdue { phase: "opsctl".to_owned(), limit: Duration::ZERO, code: None, memory },
                };
                return (Armed { until: Instant::now(), overdue }, state.ending.take());
            }
            let left = match &state.armed {
                Some(armed) => (armed.until + GRACE_PERIOD).saturating_duration_since(Instant::now()).min(memory::CHECK_INTERVAL),
                None => memory::CHECK_INTERVAL,
            };
            if left.is_zero()
                && let Some(armed) = state.armed.take()
            {
                return (armed, state.ending.take());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The watchdog thread. It neither reads nor writes, so that nothing can block it.
    fn watch(&self, last: &SyncSender<(Make, Overdue)>) -> ! {
        self.watchdog.store(this_thread(), Ordering::Relaxed);
        lag::Priority::raise_for_good();
        let (armed, ending) = self.wait();
        let Armed { until, overdue } = armed;
        let due = if overdue.memory.is_some() { until } else { until + GRACE_PERIOD };
        if !self.take_output(Holder::Free, Holder::Watchdog) {
            // the report is being written, or is written and another step is incomplete
            self.wait_for_writer(due + REPORT_TIMEOUT);
            let text = format!("opsctl: {}\n", overdue.words());
            run_detached(move || {
                let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            });
            exit(self.code.load(Ordering::Relaxed));
        }
        let Some(Ending { make, minimal, time_limit }) = ending else {
            let text = format!("opsctl: {}\n", overdue.words());
            run_detached(move || stdout::raw(&text));
            exit(overdue.code.unwrap_or(UNKNOWN));
        };
        // the remaining work of the run is useless now
        lag::lower_thread_priority();
        if last.try_send((make, overdue.clone())).is_ok() && self.is_done_by(due + time_limit) {
            exit(self.code.load(Ordering::Relaxed));
        }
        if self.take_output(Holder::Watchdog, Holder::Minimal) {
            let Output { stdout, code, .. } = minimal(&overdue);
            run_detached(move || stdout::raw(&stdout));
            exit(code);
        }
        // the report is created and being written
        self.is_done_by(due + time_limit + WRITE_TIMEOUT);
        exit(self.code.load(Ordering::Relaxed));
    }

    /// The thread that creates and prints the report of the results so far.
    fn make_last(&self, work: &Receiver<(Make, Overdue)>) {
        self.last.store(this_thread(), Ordering::Relaxed);
        lag::Priority::raise_for_good();
        let Ok((make, overdue)) = work.recv() else { return };
        // a panic is handled like a timeout
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

    /// Whether the current thread is one of those that end the process.
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

    /// Waits until this time, and longer for a terminal that accepts output.
    fn wait_for_writer(&self, until: Instant) {
        thread::sleep(until.saturating_duration_since(Instant::now()));
        if !std::io::stdout().is_terminal() {
            return;
        }
        while Instant::now() < until + SLOW_TERMINAL_TIMEOUT {
            let before = self.written.load(Ordering::Relaxed);
            thread::sleep(Duration::from_secs(1));
            if self.written.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// Runs a function on its own thread, because it may hang, and waits a short time for it.
fn run_detached(run: impl FnOnce() + Send + 'static) {
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    let signal = done.clone();
    let started = thread::Builder::new().stack_size(256 << 10).spawn(move || {
        run();
        *lock(&signal.0) = true;
        signal.1.notify_all();
    });
    if started.is_ok() {
        let guard = lock(&done.0);
        let _ = done.1.wait_timeout_while(guard, WRITE_TIMEOUT, |done| !*done);
    }
}

/// Removes the progress line, if any.
fn clear_progress() {
    if std::io::stderr().is_terminal() {
        let _ = rustix::io::write(rustix::stdio::stderr(), b"\r\x1b[K");
    }
}

/// Ends the process. Exit handlers must not block it.
fn exit(code: u8) -> ! {
    let _ = thread::Builder::new().stack_size(64 << 10).spawn(|| {
        thread::sleep(EXIT_TIMEOUT);
        let _ = kill_process(getpid(), Signal::KILL);
    });
    std::process::exit(code.into())
}
