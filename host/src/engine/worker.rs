//! Reads, validates, composes and compiles components in a process of its own.
//!
//! A component comes from a stranger, and what reading and compiling it take is
//! for the stranger to choose: a file of 200 KiB can ask for gigabytes, and for
//! hours. So the server parses none. It gives a [`Job`] to a child, which is the
//! same program under another name ([`ARGUMENT`]) with an empty environment and
//! limits on memory, processor time and output, and takes back what was found,
//! or the compiled code. A child that passes a limit is told as a fault of the
//! plugin ([`LinkError::TooCostly`]), of several the one that costs most; where the
//! machine had no child to give, that is nobody's fault ([`LinkError::Machine`]), and is
//! tried again. The child ends when its caller stops waiting.
//!
//! A program that is not `souk` (tests, the simulation) has no such child, and
//! does the same in its own process: see [`use_own_executable`].

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::link::{self, Interfaces, LinkError, Part};
use super::{bounds, compiler, wasi};

/// First argument of a program that is to be a worker.
pub const ARGUMENT: &str = "compile-worker";
/// Of one graph; a whole shop has 13 MiB.
const CODE_BYTES_MAX: u64 = 96 << 20;
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// Beside what it may allocate: the program itself, and stacks.
const PROGRAM_BYTES: u64 = 4 << 30;

/// What a component is made of, and what is to be known of it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Guest {
    pub name: String,
    /// Extension points that its manifest declares, without version.
    pub points: Vec<String>,
    /// Travels behind the rest, as it is.
    #[serde(skip, default = "nothing")]
    pub component: Arc<[u8]>,
}

fn nothing() -> Arc<[u8]> {
    Arc::new([])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    /// What it imports and exports.
    Describe,
    /// All of them composed into one component, and compiled.
    Build { services_too: bool, metered: bool, baseline: bool },
    /// One that cannot run by itself is compiled, to see what that takes.
    Try { baseline: bool },
}

#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub task: Task,
    pub guests: Vec<Guest>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Done {
    Described(Interfaces),
    /// The code follows.
    Built(Vec<Part>),
    /// The baseline compiler does not know all that is in it.
    NoBaseline(String),
    /// What it took of the limits, of that of which it took most.
    Tried(f64),
}

/// Why a child gave no answer.
enum Failed {
    /// It did not come to an end within its limits.
    Limits(String),
    /// The machine did not let it.
    Machine(String),
}

/// What a machine does not give now it may give in a moment.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// What one job may take.
struct Limits {
    memory_bytes: u64,
    processor_time: Duration,
    /// A machine that has no processor to spare lets it wait.
    wall: Duration,
}

impl Task {
    const fn limits(self) -> Limits {
        match self {
            Self::Describe => Limits { memory_bytes: 512 << 20, processor_time: Duration::from_secs(30), wall: Duration::from_secs(120) },
            // A whole shop takes a second of it. Shoppers wait for what this takes, …
            Self::Build { baseline: true, .. } | Self::Try { baseline: true } => {
                Limits { memory_bytes: 2 << 30, processor_time: Duration::from_secs(60), wall: Duration::from_secs(300) }
            }
            // … and not for this.
            Self::Build { .. } | Self::Try { .. } => {
                Limits { memory_bytes: 2 << 30, processor_time: Duration::from_secs(300), wall: Duration::from_secs(900) }
            }
        }
    }

    /// Optimising has time.
    const fn stands_back(self) -> bool {
        matches!(self, Self::Build { baseline: false, .. } | Self::Try { baseline: false })
    }
}

static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();

/// For `main` of a program that calls [`work`] when it is given [`ARGUMENT`].
pub fn use_own_executable() {
    // Names what runs here even after the file was replaced by a newer one.
    let own = PathBuf::from("/proc/self/exe");
    if let Some(program) = if own.exists() { Some(own) } else { std::env::current_exe().ok() } {
        let _ = EXECUTABLE.set(program);
    }
}

/// Whether jobs are done by a child.
pub(super) fn is_apart() -> bool {
    EXECUTABLE.get().is_some()
}

impl Job {
    /// Takes as long as it takes: not for the threads of the runtime.
    pub fn perform(&self) -> Result<(Done, Vec<u8>), LinkError> {
        let Some(program) = EXECUTABLE.get() else { return self.perform_here() };
        let refusal = match self.perform_in_some_child(program) {
            Ok(outcome) => return outcome,
            Err(Failed::Machine(reason)) => return Err(LinkError::Machine(reason)),
            Err(Failed::Limits(refusal)) => refusal,
        };
        let culprit = match &self.guests[..] {
            [one] => Some(one),
            several => self.costliest_of(several, program),
        };
        Err(match culprit {
            Some(guest) => LinkError::TooCostly { plugin: guest.name.clone(), reason: refusal },
            None => LinkError::Unusable(refusal),
        })
    }

    /// Whose fault it is shows when each is compiled alone: one fails at that, or together
    /// they are too much, and without the dearest the others may fit.
    fn costliest_of<'a>(&self, guests: &'a [Guest], program: &PathBuf) -> Option<&'a Guest> {
        let Task::Build { baseline, .. } = self.task else { return None };
        let mut costliest = None;
        for guest in guests {
            let alone = Job { task: Task::Try { baseline }, guests: vec![guest.clone()] };
            let cost = match alone.perform_in_some_child(program) {
                Ok(Ok((Done::Tried(cost), _))) => cost,
                Ok(_) | Err(Failed::Machine(_)) => continue,
                Err(Failed::Limits(_)) => return Some(guest),
            };
            if costliest.is_none_or(|(most, _)| cost > most) {
                costliest = Some((cost, guest));
            }
        }
        costliest.map(|(_, guest)| guest)
    }

    fn perform_in_some_child(&self, program: &PathBuf) -> Result<Result<(Done, Vec<u8>), LinkError>, Failed> {
        let mut tries = 1;
        loop {
            match self.perform_in_child(program) {
                Err(Failed::Machine(reason)) if tries < TRIES => {
                    tracing::warn!("the machine lets no compile worker run, trying again: {reason}");
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                ended => return ended,
            }
        }
    }

    fn perform_here(&self) -> Result<(Done, Vec<u8>), LinkError> {
        for guest in &self.guests {
            bounds::check(&guest.component).map_err(|reason| LinkError::NotAComponent { plugin: guest.name.clone(), reason })?;
        }
        match (self.task, &self.guests[..]) {
            (Task::Describe, [guest]) => Ok((Done::Described(wasi::describe(&guest.name, &guest.component)?), Vec::new())),
            (Task::Try { baseline }, [guest]) => {
                // Whether it compiles is not asked, only whether that comes to an end.
                let code = compiler(false, baseline).and_then(|engine| engine.precompile_component(&guest.component));
                Ok((Done::Tried(self.task.limits().taken(code.map_or(0, |code| code.len()))), Vec::new()))
            }
            (Task::Describe | Task::Try { .. }, _) => Err(LinkError::Unusable("a compile worker looks at one component at a time".into())),
            (Task::Build { services_too, metered, baseline }, guests) => {
                let composition = link::compose(guests, services_too)?;
                let unusable = |error: wasmtime::Error| LinkError::Unusable(format!("{error:#}"));
                let engine = compiler(metered, baseline).map_err(unusable)?;
                match engine.precompile_component(&composition.component) {
                    Ok(code) => Ok((Done::Built(composition.parts), code)),
                    Err(error) if baseline => Ok((Done::NoBaseline(format!("{error:#}")), Vec::new())),
                    Err(error) => Err(unusable(error)),
                }
            }
        }
    }

    fn perform_in_child(&self, program: &PathBuf) -> Result<Result<(Done, Vec<u8>), LinkError>, Failed> {
        let failed = |what: &'static str| move |error: std::io::Error| Failed::Machine(format!("{what}: {error}"));
        let (mut question, mut answer) = anonymous_files().map_err(failed("no room for a compile worker"))?;
        self.write(&mut question).map_err(failed("no room for a compile worker"))?;
        let handle = |file: &File| file.try_clone().map(Stdio::from);
        let child = Command::new(program)
            .arg(ARGUMENT)
            .env_clear()
            // Unless told otherwise, the allocator takes a gigabyte beforehand.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .env("MIMALLOC_ARENA_RESERVE", "65536")
            .current_dir("/")
            .stdin(handle(&question).map_err(failed("no compile worker"))?)
            .stdout(handle(&answer).map_err(failed("no compile worker"))?)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed("the compile worker does not start"))?;
        let limits = self.task.limits();
        let (status, complaint) = Running(child).wait(limits.wall).map_err(failed("the compile worker"))?;
        match status {
            Some(status) if status.success() => {}
            status => return Err(limits.passed(status, &complaint)),
        }
        let bytes = answer.metadata().map_err(failed("the compile worker's answer"))?.len();
        if bytes > CODE_BYTES_MAX {
            return Err(Failed::Limits(format!("its compiled code has {bytes} bytes; at most {CODE_BYTES_MAX} are allowed")));
        }
        read_answer(&mut answer, bytes).map_err(failed("the compile worker's answer"))
    }

    fn write(&self, to: &mut File) -> std::io::Result<()> {
        let lengths: Vec<u64> = self.guests.iter().map(|guest| guest.component.len() as u64).collect();
        write_header(to, &(self, lengths))?;
        self.guests.iter().try_for_each(|guest| to.write_all(&guest.component))?;
        to.seek(SeekFrom::Start(0)).map(drop)
    }

    fn read(from: &mut impl Read) -> std::io::Result<Self> {
        let (mut job, lengths): (Self, Vec<u64>) = read_header(from)?;
        for (guest, length) in job.guests.iter_mut().zip(lengths) {
            let mut component = vec![0; length as usize];
            from.read_exact(&mut component)?;
            guest.component = component.into();
        }
        Ok(job)
    }
}

impl Limits {
    /// Why there is no answer.
    fn passed(&self, status: Option<ExitStatus>, complaint: &str) -> Failed {
        use std::os::unix::process::ExitStatusExt;
        let Some(status) = status else {
            return Failed::Limits(format!("reading and compiling it took more than {} s", self.wall.as_secs()));
        };
        let no_memory = complaint.contains("memory allocation of") || complaint.contains("Cannot allocate memory");
        if status.signal() == Some(libc::SIGKILL) || (no_memory && available_bytes().is_some_and(|bytes| bytes < self.memory_bytes)) {
            return Failed::Machine("it has too little memory left, or ends programs".into());
        }
        Failed::Limits(match status.signal() {
            Some(libc::SIGXCPU) => format!("reading and compiling it took more than {} s of processor time", self.processor_time.as_secs()),
            Some(libc::SIGXFSZ) => format!("its compiled code has more than {CODE_BYTES_MAX} bytes"),
            _ if no_memory => {
                format!("reading and compiling it takes more than {} MiB of memory", self.memory_bytes >> 20)
            }
            _ if complaint.contains("overflowed its stack") => "its types or components are nested too deeply to be read".into(),
            _ => format!("reading and compiling it failed ({status}): {}", complaint.trim()),
        })
    }

    /// By this process until now, of that of which it took most: 1 is a limit.
    fn taken(&self, code_bytes: usize) -> f64 {
        // SAFETY: all zeros are such a struct.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: writes to a struct that lives here.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        // In KiB on Linux.
        let memory = usage.ru_maxrss as f64 * 1024.0 / self.memory_bytes as f64;
        let processor_time = (seconds(usage.ru_utime) + seconds(usage.ru_stime)) / self.processor_time.as_secs_f64();
        memory.max(processor_time).max(code_bytes as f64 / CODE_BYTES_MAX as f64)
    }

    /// On this process.
    fn take_effect(&self) {
        let limit = |resource, soft: u64, hard: u64| {
            let limits = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            // SAFETY: reads a struct that lives here.
            unsafe { libc::setrlimit(resource, &limits) }
        };
        let seconds = self.processor_time.as_secs();
        limit(libc::RLIMIT_DATA, self.memory_bytes, self.memory_bytes);
        limit(libc::RLIMIT_AS, self.memory_bytes + PROGRAM_BYTES, self.memory_bytes + PROGRAM_BYTES);
        limit(libc::RLIMIT_CPU, seconds, seconds + 1);
        limit(libc::RLIMIT_FSIZE, CODE_BYTES_MAX + (1 << 20), CODE_BYTES_MAX + (1 << 20));
        limit(libc::RLIMIT_CORE, 0, 0);
    }
}

/// Memory that programs could still have, where the system tells.
fn available_bytes() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? << 10)
}

/// Ended when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// How it ended, none where it did not in time, and the beginning of what it complained of.
    fn wait(mut self, limit: Duration) -> std::io::Result<(Option<ExitStatus>, String)> {
        let until = Instant::now() + limit;
        let mut complaint = Vec::new();
        // Open for as long as it runs: its end is the child's.
        if let Some(mut stderr) = self.0.stderr.take() {
            let mut piece = [0; 1 << 10];
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok((None, String::new()));
                }
                let mut ready = libc::pollfd { fd: stderr.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // Rounded up, so that the last look is not before the end.
                let left_ms = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
                // SAFETY: one struct, which lives here.
                if unsafe { libc::poll(&mut ready, 1, left_ms) } <= 0 {
                    continue;
                }
                match stderr.read(&mut piece) {
                    Ok(0) => break,
                    Ok(bytes) => {
                        let room = COMPLAINT_BYTES_MAX.saturating_sub(complaint.len());
                        complaint.extend_from_slice(&piece[..bytes.min(room)]);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((Some(self.0.wait()?), String::from_utf8_lossy(&complaint).into_owned()))
    }
}

/// For question and answer. They are gone with their last handle.
fn anonymous_files() -> std::io::Result<(File, File)> {
    #[cfg(target_os = "linux")]
    fn anonymous_file() -> std::io::Result<File> {
        use std::os::fd::FromRawFd;
        // SAFETY: the name is a C string; a descriptor that is returned is nobody else's.
        let file = unsafe { libc::memfd_create(c"souk".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: see above.
        Ok(unsafe { File::from_raw_fd(file) })
    }
    #[cfg(not(target_os = "linux"))]
    use tempfile::tempfile as anonymous_file;
    Ok((anonymous_file()?, anonymous_file()?))
}

fn write_header(to: &mut impl Write, header: &impl Serialize) -> std::io::Result<()> {
    let header = postcard::to_stdvec(header).map_err(std::io::Error::other)?;
    to.write_all(&(header.len() as u32).to_le_bytes())?;
    to.write_all(&header)
}

fn read_header<T: serde::de::DeserializeOwned>(from: &mut impl Read) -> std::io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut header = Vec::new();
    from.take(u32::from_le_bytes(length).into()).read_to_end(&mut header)?;
    postcard::from_bytes(&header).map_err(std::io::Error::other)
}

fn read_answer(answer: &mut File, bytes: u64) -> std::io::Result<Result<(Done, Vec<u8>), LinkError>> {
    answer.seek(SeekFrom::Start(0))?;
    let outcome: Result<Done, LinkError> = read_header(answer)?;
    let mut code = Vec::with_capacity(bytes as usize);
    answer.read_to_end(&mut code)?;
    Ok(outcome.map(|done| (done, code)))
}

/// The whole life of a worker: the job comes by standard input, its outcome goes to standard output.
pub fn work() -> ExitCode {
    ended_with_parent();
    match do_job() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn do_job() -> std::io::Result<()> {
    // Until here nothing of the job was looked at.
    let mut input = std::io::stdin().lock();
    let job = Job::read(&mut input)?;
    job.task.limits().take_effect();
    if job.task.stands_back() {
        // SAFETY: takes and gives plain numbers; 0 is this process.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
    }
    let (outcome, code) = match job.perform_here() {
        Ok((done, code)) => (Ok(done), code),
        Err(error) => (Err(error), Vec::new()),
    };
    // Not by the lines of `Stdout`.
    let mut output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    write_header(&mut output, &outcome)?;
    output.write_all(&code)
}

/// A server that is killed leaves no worker behind.
fn ended_with_parent() {
    #[cfg(target_os = "linux")]
    // SAFETY: takes and gives plain numbers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
}
