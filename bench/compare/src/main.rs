//! lunette beside its peers, in one run, as ratios.
//!
//! `run` measures and writes `results.json`; `render` makes the tables and plots of `docs/performance.md` out of that file;
//! `list` says which cases and peers there are. Loopback only.

mod cases;
mod distance;
mod fault;
mod load;
mod machine;
mod peers;
mod process;
mod render;
mod results;
mod rpc;
mod run;
mod stats;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use cases::{Case, Group};
use fault::Fault;
use load::Generator;
use peers::{Found, Kind, Tools};
use process::Scratch;
use results::{Named, Results};
use run::Run;

#[derive(Debug, Parser)]
#[command(version, about = "lunette beside its peers, in one run, as ratios")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure; results.json keeps what other runs wrote there of other cases
    Run(RunArgs),
    /// Put tables and plots of results.json into a page
    Render(RenderArgs),
    /// Say which cases and peers there are
    List(Programs),
}

/// Our own programs; those beside this one unless named.
#[derive(Debug, Args)]
struct Programs {
    /// lunette, as it is released
    #[arg(long, value_name = "PATH")]
    lunette: Option<PathBuf>,
    /// lunette-load
    #[arg(long, value_name = "PATH")]
    load: Option<PathBuf>,
    /// lunette-wire
    #[arg(long, value_name = "PATH")]
    wire: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    programs: Programs,
    /// A case, or goals, sweep, file, scale for all of a group, or all; repeatable [default: goals, file]
    #[arg(long = "case", visible_alias = "only", value_name = "NAME")]
    cases: Vec<String>,
    /// lunette, echo, spdk, tgt, istgt or fio; repeatable [default: all that are there]
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
    /// Times that each case is measured with each peer [default: 16]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Of each point, after its warm-up [default: 0.7]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Whether it works, not how fast: 2 rounds of 0.1 s, disks of 64 MiB
    #[arg(long)]
    quick: bool,
    /// Size of each disk [default: 1024]
    #[arg(long, value_name = "MIB")]
    disk: Option<u64>,
    /// Where results.json and the disk that is a file on a medium go
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    out: PathBuf,
    /// A folder in memory, for disks of peers without RAM disks
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    memory: PathBuf,
    /// The CPU of whoever serves [default: chosen]
    #[arg(long, value_name = "N", requires = "client_cpu")]
    server_cpu: Option<usize>,
    /// The CPU of the load [default: chosen]
    #[arg(long, value_name = "N", requires = "server_cpu")]
    client_cpu: Option<usize>,
}

#[derive(Debug, Args)]
struct RenderArgs {
    /// Where results.json is
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    out: PathBuf,
    /// The page; plots go to the folder beside it that has its name
    #[arg(long, value_name = "FILE", default_value = "docs/performance.md")]
    page: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Render(args) => render(&args).map(|()| true),
        Command::List(programs) => list(&programs).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("lunette-compare: {fault}");
            ExitCode::from(2)
        }
    }
}

/// Whether every point came about.
fn run(args: RunArgs) -> Result<bool, Fault> {
    let tools = tools(&args.programs);
    if !tools.load.is_file() {
        let hint = "build it (cargo build --profile dist -p lunette-load) and name it with --load";
        return Err(Fault::Missing { program: tools.load.display().to_string(), hint });
    }
    let cases = chosen_cases(&args.cases)?;
    let cpus = machine::cpus(args.server_cpu, args.client_cpu)?;
    let (peers, skipped) = chosen_peers(&args.peers, &cases, &tools)?;
    fs::create_dir_all(&args.out).map_err(Fault::file(&args.out))?;
    let seconds = args.seconds.unwrap_or(if args.quick { 0.1 } else { 0.7 });
    if !(0.001..=3600.0).contains(&seconds) {
        return Err(Fault::Usage(format!("{seconds} seconds for a point are too few or too many")));
    }
    let run = Run {
        rounds: args.rounds.unwrap_or(if args.quick { 2 } else { 16 }),
        generator: Generator {
            program: tools.load,
            cpus,
            seconds,
            warmup: if args.quick { 0.02 } else { 0.15 },
            is_urgent: false,
        },
        cpus,
        disk_bytes: args.disk.unwrap_or(if args.quick { 64 } else { 1024 }).max(1) << 20,
        scratch: Scratch::new(&args.memory)?,
        out: args.out,
        cases,
        peers,
    };
    let mut results = resumed(&run, skipped)?;
    process::pin(cpus.client)?;
    println!("{}", results.machine.join("\n"));
    run.all(&mut results)?;
    println!("\n{}", render::text(&results));
    for line in &results.failures {
        println!("failed: {line}");
    }
    Ok(results.failures.is_empty())
}

/// What the folder holds, without what is now measured anew.
fn resumed(run: &Run, skipped: Vec<Named>) -> Result<Results, Fault> {
    let mut results = Results::load(&run.out)?.unwrap_or_default();
    let is_anew = |name: &str| run.cases.iter().any(|case| case.name == name);
    results.points.retain(|point| !is_anew(&point.case));
    results.failures.clear();
    results.machine = machine::description(run.cpus);
    results.machine.push(format!(
        "{} s for each point after {} s of warm-up, disks of {} MiB",
        run.generator.seconds,
        run.generator.warmup,
        run.disk_bytes >> 20
    ));
    results.machine.extend(scarce(machine::free_hugepages_mib(), run.disk_bytes >> 20));
    for (kind, found) in &run.peers {
        results.peers.retain(|peer| peer.name != kind.name());
        results.peers.push(Named { name: kind.name().to_owned(), what: found.version.clone() });
    }
    results.skipped = skipped;
    Ok(results)
}

/// What is to be known where RAM disks are not all of hugepages: they are not of the same memory then.
fn scarce(free_mib: u64, disk_mib: u64) -> Option<String> {
    // lunette, the echo pair and SPDK, each with a disk; buffers and SPDK's pools.
    let wanted_mib = 3 * disk_mib + 1536;
    (free_mib < wanted_mib).then(|| {
        format!(
            "hugepages for {free_mib} MiB are free, {wanted_mib} MiB are wanted (sysctl vm.nr_hugepages={}): lunette and SPDK \
             make do with ordinary pages, the echo pair with transparent hugepages",
            wanted_mib / 2
        )
    })
}

fn render(args: &RenderArgs) -> Result<(), Fault> {
    let found = Results::load(&args.out)?;
    let results =
        found.ok_or_else(|| Fault::Usage(format!("{}: no {}", args.out.display(), results::FILE)))?;
    let page = fs::read_to_string(&args.page).map_err(Fault::file(&args.page))?;
    let folder = args.page.with_extension("");
    let drawn = render::plots(&results.by_distance().0, &folder)?;
    let beside = folder.file_name().unwrap_or_default().to_string_lossy();
    let text = render::page(&results, &page, &beside).map_err(Fault::Usage)?;
    fs::write(&args.page, text).map_err(Fault::file(&args.page))?;
    println!("{}: tables; {} plots in {}", args.page.display(), drawn.len(), folder.display());
    Ok(())
}

fn list(programs: &Programs) -> Result<(), Fault> {
    let tools = tools(programs);
    println!("cases:");
    for case in cases::all() {
        let group = Group::ALL.iter().find(|(group, _)| *group == case.group).map_or("", |(_, word)| word);
        println!("  {:32} {group:6} {}", case.name, case.title);
    }
    println!("peers:");
    for kind in Kind::ALL {
        match kind.find(&tools) {
            Ok(found) => println!("  {:8} {} ({})", kind.name(), found.version, found.program.display()),
            Err(fault) => println!("  {:8} skipped: {fault}", kind.name()),
        }
    }
    Ok(())
}

fn tools(programs: &Programs) -> Tools {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = |given: &Option<PathBuf>, name: &str| match given {
        Some(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
        None => own.parent().unwrap_or(Path::new("")).join(name),
    };
    Tools {
        lunette: beside(&programs.lunette, "lunette"),
        wire: beside(&programs.wire, "lunette-wire"),
        load: beside(&programs.load, "lunette-load"),
    }
}

/// The cases of these names and groups.
fn chosen_cases(names: &[String]) -> Result<Vec<Case>, Fault> {
    let standard = ["goals".to_owned(), "file".to_owned()];
    let names = if names.is_empty() { &standard } else { names };
    let is_named = |case: &Case, name: &str| {
        name == "all"
            || case.name == name
            || Group::ALL.iter().any(|(group, word)| *word == name && *group == case.group)
    };
    let all = cases::all();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|case| is_named(case, name))) {
        return Err(Fault::Usage(format!("there is no case {name}; see lunette-compare list")));
    }
    Ok(all.into_iter().filter(|case| names.iter().any(|name| is_named(case, name))).collect())
}

/// A peer with its program.
type Present = (Kind, Found);

/// The peers that these cases want: those that are there, and those that are not. One that was asked for by name has to be there.
fn chosen_peers(
    names: &[String],
    cases: &[Case],
    tools: &Tools,
) -> Result<(Vec<Present>, Vec<Named>), Fault> {
    if let Some(name) = names.iter().find(|name| !Kind::ALL.iter().any(|kind| kind.name() == name.as_str())) {
        return Err(Fault::Usage(format!("there is no peer {name}")));
    }
    let (mut there, mut skipped) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        let is_named = names.iter().any(|name| name == kind.name());
        if !(names.is_empty() || is_named) || !cases.iter().any(|case| case.peers.contains(&kind)) {
            continue;
        }
        match kind.find(tools) {
            Ok(found) => there.push((kind, found)),
            Err(fault) if is_named => return Err(fault),
            Err(fault) => {
                eprintln!("{} is skipped: {fault}", kind.name());
                skipped.push(Named { name: kind.name().to_owned(), what: fault.to_string() });
            }
        }
    }
    Ok((there, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn cases_are_chosen_by_name_and_by_group() {
        let count = |words: &[&str]| chosen_cases(&names(words)).map(|cases| cases.len());
        assert_eq!(count(&[]).unwrap(), 13);
        assert_eq!(count(&["fairness", "file", "fairness"]).unwrap(), 5);
        assert_eq!(count(&["all"]).unwrap(), cases::all().len());
        assert_eq!(
            count(&["fairness", "speed"]).unwrap_err().to_string(),
            "there is no case speed; see lunette-compare list"
        );
    }

    #[test]
    fn a_missing_peer_is_skipped_by_name_unless_it_was_asked_for() {
        let missing = PathBuf::from("/nowhere/program");
        let tools = Tools { lunette: missing.clone(), wire: missing.clone(), load: missing };
        let cases = chosen_cases(&names(&["connections-1"])).unwrap();
        let (there, skipped) = chosen_peers(&[], &cases, &tools).unwrap();
        assert!(there.is_empty());
        assert_eq!(skipped.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>(), ["lunette", "echo"]);
        assert_eq!(
            chosen_peers(&names(&["echo"]), &cases, &tools).unwrap_err().to_string(),
            "there is no /nowhere/program: build it (cargo build --profile dist -p lunette-wire) and name it with --wire"
        );
        assert!(chosen_peers(&names(&["nobody"]), &cases, &tools).is_err());
    }

    #[test]
    fn too_few_hugepages_are_told() {
        assert_eq!(scarce(4608, 1024), None);
        let said = scarce(4607, 1024).unwrap();
        assert!(said.contains("4608 MiB are wanted (sysctl vm.nr_hugepages=2304)"), "{said}");
    }

    #[test]
    fn options_are_understood() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from([
            "x", "run", "--case", "goals", "--only", "file", "--rounds", "3", "--quick",
        ])
        .unwrap();
        let Command::Run(args) = cli.command else { panic!("{cli:?}") };
        assert_eq!((args.cases, args.rounds, args.quick), (names(&["goals", "file"]), Some(3), true));
        assert!(Cli::try_parse_from(["x", "run", "--server-cpu", "1"]).is_err());
    }
}
