//! Bdevs made of others: `bdev_delay_*`, `bdev_error_*`, `bdev_passthru_*`.

use std::sync::Arc;

use rustix::io::Errno;

use super::memory::Name;
use super::{Method, Outcome, method};
use crate::bdev::delay::{Delay, Delays};
use crate::bdev::error::{Fault as Injected, Faults, Faulty, Kind};
use crate::bdev::{Bdev, Channel, Info, IoError};
use crate::id::ReactorId;
use crate::rpc::context::Context;
use crate::rpc::devices::{Device, Made, bdev_fault, no_bdev};
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::orders::Orders;
use crate::rpc::params::params;
use crate::rpc::recipes::{Recipe, recipe};
use crate::rpc::types::{Ignored, Off, Uuid, choice};

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_delay_create",
        Runtime,
        DelayCreate,
        delay_create,
        "Makes a slower bdev of another one and answers with its name."
    ),
    method!(
        "bdev_delay_update_latency",
        Runtime,
        DelayUpdate,
        delay_update,
        "Changes one of a delay bdev's latencies, for the IOs that come from then on."
    ),
    method!("bdev_delay_delete", Runtime, Name, delay_delete, "Deletes a delay bdev, its LUNs first."),
    method!(
        "bdev_error_create",
        Runtime,
        ErrorCreate,
        error_create,
        "Makes a bdev with faults to order of another one; it is called EE_ and the other one's name."
    ),
    method!("bdev_error_delete", Runtime, Name, error_delete, "Deletes an error bdev, its LUNs first."),
    method!(
        "bdev_error_inject_error",
        Runtime,
        Inject,
        error_inject,
        "Orders faults of an error bdev: for so many IOs of a kind."
    ),
    method!(
        "bdev_error_resume_pending",
        Runtime,
        Name,
        error_resume,
        "Lets go of the IOs that an error bdev holds back."
    ),
    method!(
        "bdev_passthru_create",
        Runtime,
        PassthruCreate,
        passthru_create,
        "Makes a bdev of another one that differs in name and UUID only, and answers with its name."
    ),
    method!(
        "bdev_passthru_delete",
        Runtime,
        Name,
        passthru_delete,
        "Deletes a passthru bdev, its LUNs first."
    ),
];

/// Another bdev under a name and UUID of its own.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn Bdev>,
    name: String,
    uuid: [u8; 16],
}

impl Bdev for Named {
    fn info(&self) -> Info {
        Info { name: self.name.clone(), uuid: self.uuid, ..self.inner.info() }
    }

    fn base(&self) -> Option<&dyn Bdev> {
        Some(&*self.inner)
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.inner.open(reactor)
    }
}

fn named(inner: Arc<dyn Bdev>, name: &str, Uuid(uuid): Uuid) -> Arc<dyn Bdev> {
    Arc::new(Named { inner, name: name.to_owned(), uuid })
}

params! {
    /// Of `bdev_delay_create`.
    pub(super) struct DelayCreate {
        /// Its name.
        name: String,
        /// What it is made of.
        base_bdev_name: String,
        /// Microseconds that a read takes at least.
        avg_read_latency: u64,
        /// SPDK delays one read in a hundred for so many microseconds; lunette delays all alike.
        p99_read_latency: u64,
        /// Microseconds that a write or flush takes at least.
        avg_write_latency: u64,
        /// SPDK delays one write in a hundred for so many microseconds; lunette delays all alike.
        p99_write_latency: u64,
        /// What names the medium to initiators; random where none is given.
        uuid: Option<Uuid>,
    }
}

fn delay_create(context: &Context, params: DelayCreate) -> Outcome {
    if params.avg_read_latency > params.p99_read_latency
        || params.avg_write_latency > params.p99_write_latency
    {
        return Err(Fault::errno(Errno::INVAL, "a p99 latency is not below its average"));
    }
    let (read_ns, write_ns) = (nanoseconds(params.avg_read_latency)?, nanoseconds(params.avg_write_latency)?);
    let delays = Delays { read_ns, write_ns, flush_ns: write_ns };
    let inner = context.base(&params.base_bdev_name)?;
    if inner.info().passes.is_some() {
        let why = format_args!("{}: what is passed through cannot be delayed", params.base_bdev_name);
        return Err(Fault::errno(Errno::OPNOTSUPP, why));
    }
    let uuid = params.uuid.unwrap_or_else(Uuid::random);
    let delay = Delay::new(inner, delays);
    let device = Some(Device::Delay(delay.pace()));
    let made = Made {
        bdev: named(Arc::new(delay), &params.name, uuid),
        device,
        recipe: recipe(
            "bdev_delay_create",
            object! {
                "base_bdev_name": &params.base_bdev_name,
                "name": params.name,
                "uuid": uuid.to_string(),
                "avg_read_latency": params.avg_read_latency,
                "p99_read_latency": params.p99_read_latency,
                "avg_write_latency": params.avg_write_latency,
                "p99_write_latency": params.p99_write_latency,
            },
        ),
        bases: vec![params.base_bdev_name],
    };
    context.register(made).map(Json::from)
}

choice! {
    /// Which of its latencies.
    pub(super) enum Latency {
        "avg_read" => AvgRead,
        "p99_read" => P99Read,
        "avg_write" => AvgWrite,
        "p99_write" => P99Write,
    }
}

impl Latency {
    /// The parameter of `bdev_delay_create` that it is.
    fn parameter(self) -> &'static str {
        match self {
            Latency::AvgRead => AVG_READ,
            Latency::P99Read => P99_READ,
            Latency::AvgWrite => AVG_WRITE,
            Latency::P99Write => P99_WRITE,
        }
    }
}

/// Parameters of `bdev_delay_create`.
const AVG_READ: &str = "avg_read_latency";
const P99_READ: &str = "p99_read_latency";
const AVG_WRITE: &str = "avg_write_latency";
const P99_WRITE: &str = "p99_write_latency";

params! {
    /// Of `bdev_delay_update_latency`.
    pub(super) struct DelayUpdate {
        /// The delay bdev.
        delay_bdev_name: String,
        /// Which latency. A p99 latency that would be below its average is saved as that.
        latency_type: Latency,
        /// Microseconds.
        latency_us: u64,
    }
}

fn delay_update(context: &Context, params: DelayUpdate) -> Outcome {
    nanoseconds(params.latency_us)?;
    let name = params.delay_bdev_name;
    let Device::Delay(pace) = context.device(&name)? else { return Err(no_bdev(&name)) };
    let wanted = name.clone();
    let changed = context.control(move |control, _| {
        let recipe = Recipe::parse(&control.bdev(&wanted).ok_or_else(|| no_bdev(&wanted))?.spec.recipe);
        let mut recipe = recipe.with(params.latency_type.parameter(), params.latency_us.into());
        let latency = |recipe: &Recipe, name| match recipe.param(name) {
            Some(Json::Unsigned(microseconds)) => *microseconds,
            _ => 0,
        };
        for (average, p99) in [(AVG_READ, P99_READ), (AVG_WRITE, P99_WRITE)] {
            let (average, is_below) =
                (latency(&recipe, average), latency(&recipe, p99) < latency(&recipe, average));
            if is_below {
                recipe = recipe.with(p99, average.into());
            }
        }
        let averages = [AVG_READ, AVG_WRITE].map(|name| latency(&recipe, name));
        control.set_recipe(&wanted, recipe.to_string()).map_err(|error| bdev_fault(&error))?;
        Ok::<_, Fault>(averages)
    })?;
    let [read, write] = changed?;
    let (read_ns, write_ns) = (nanoseconds(read)?, nanoseconds(write)?);
    pace.set(Delays { read_ns, write_ns, flush_ns: write_ns });
    Ok(Json::Bool(true))
}

fn nanoseconds(microseconds: u64) -> Result<u64, Fault> {
    /// An hour: longer than anybody waits.
    const MICROSECONDS_MAX: u64 = 3600 * 1_000_000;
    if microseconds > MICROSECONDS_MAX {
        return Err(Fault::errno(
            Errno::INVAL,
            format_args!("a latency is at most {MICROSECONDS_MAX} microseconds"),
        ));
    }
    Ok(microseconds * 1000)
}

fn delay_delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, "bdev_delay_create")?;
    Ok(Json::Bool(true))
}

params! {
    /// Of `bdev_error_create`.
    pub(super) struct ErrorCreate {
        /// What it is made of.
        base_name: String,
        /// What names the medium to initiators; random where none is given.
        uuid: Option<Uuid>,
    }
}

fn error_create(context: &Context, params: ErrorCreate) -> Outcome {
    let inner = context.base(&params.base_name)?;
    let uuid = params.uuid.unwrap_or_else(Uuid::random);
    let faults = Faults::new();
    let orders = Orders::new(faults.clone());
    let made = Made {
        bdev: named(Arc::new(Faulty::new(inner, faults)), &format!("EE_{}", params.base_name), uuid),
        device: Some(Device::Error(Arc::new(orders))),
        recipe: recipe(
            "bdev_error_create",
            object! { "base_name": &params.base_name, "uuid": uuid.to_string() },
        ),
        bases: vec![params.base_name],
    };
    context.register(made)?;
    Ok(Json::Bool(true))
}

fn error_delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, "bdev_error_create")?;
    Ok(Json::Bool(true))
}

choice! {
    /// The kind of IO that a fault strikes.
    pub(super) enum IoType {
        "clear" => Clear,
        "read" => Read,
        "write" => Write,
        "flush" => Flush,
        "all" => All,
    }
}

choice! {
    /// What happens to the IO.
    pub(super) enum ErrorType {
        "failure" => Failure,
        "pending" => Pending,
        "nomem" => NoMemory,
    }
}

params! {
    /// Of `bdev_error_inject_error`.
    pub(super) struct Inject {
        /// The error bdev.
        name: String,
        /// What IOs; clear takes back every order.
        io_type: IoType,
        /// What happens to them: failure is a medium error, pending is no answer until bdev_error_resume_pending, nomem a
        /// full queue.
        error_type: ErrorType,
        /// How many of them; 0 takes the order back.
        num: u32 = 1,
        /// SPDK's: an NVMe status code type.
        nvme_sct: Off,
        /// SPDK's: an NVMe status code.
        nvme_sc: Off,
        /// SPDK's: how many IOs may be pending.
        queue_depth: Ignored,
        /// SPDK's: which byte to falsify.
        corrupt_offset: Ignored,
        /// SPDK's: how to falsify it.
        corrupt_value: Ignored,
    }
}

fn orders(context: &Context, name: &str) -> Result<Arc<Orders>, Fault> {
    match context.device(name)? {
        Device::Error(orders) => Ok(orders),
        _ => Err(no_bdev(name)),
    }
}

fn error_inject(context: &Context, params: Inject) -> Outcome {
    let orders = orders(context, &params.name)?;
    let kind = match params.io_type {
        IoType::Clear => {
            orders.clear();
            return Ok(Json::Bool(true));
        }
        IoType::Read => Kind::Read,
        IoType::Write => Kind::Write,
        IoType::Flush => Kind::Flush,
        IoType::All => Kind::Any,
    };
    let fault = match params.error_type {
        ErrorType::Failure => Injected::Fail(IoError::Medium { lba: None }),
        ErrorType::Pending => Injected::Hold,
        ErrorType::NoMemory => Injected::Full,
    };
    orders.order(kind, fault, params.num)?;
    Ok(Json::Bool(true))
}

fn error_resume(context: &Context, params: Name) -> Outcome {
    orders(context, &params.name)?.release();
    Ok(Json::Bool(true))
}

params! {
    /// Of `bdev_passthru_create`.
    pub(super) struct PassthruCreate {
        /// Its name.
        name: String,
        /// What it is made of.
        base_bdev_name: String,
        /// What names the medium to initiators; random where none is given.
        uuid: Option<Uuid>,
    }
}

fn passthru_create(context: &Context, params: PassthruCreate) -> Outcome {
    let inner = context.base(&params.base_bdev_name)?;
    let uuid = params.uuid.unwrap_or_else(Uuid::random);
    let made = Made {
        bdev: named(inner, &params.name, uuid),
        device: None,
        recipe: recipe(
            "bdev_passthru_create",
            object! {
                "base_bdev_name": &params.base_bdev_name,
                "name": params.name,
                "uuid": uuid.to_string(),
            },
        ),
        bases: vec![params.base_bdev_name],
    };
    context.register(made).map(Json::from)
}

fn passthru_delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, "bdev_passthru_create")?;
    Ok(Json::Bool(true))
}
