/* What is bound. */
#include <spdk/stdinc.h>
#include <spdk/bdev.h>
#include <spdk/env.h>
#include <spdk/init.h>
#include <spdk/log.h>
#include <spdk/nvme_spec.h>
#include <spdk/rpc.h>
#include <spdk/thread.h>
#include <spdk/uuid.h>
#include <spdk/version.h>

/* Declared in bdev_module.h, whose structures nobody here looks into. */
typedef void (*spdk_bdev_unregister_cb)(void *cb_arg, int rc);
void spdk_bdev_unregister(struct spdk_bdev *bdev, spdk_bdev_unregister_cb cb_fn, void *cb_arg);
int spdk_bdev_notify_blockcnt_change(struct spdk_bdev *bdev, uint64_t size);

/* What lunette gets of SPDK's log: whole lines, without the end of line. */
typedef void (*lunette_spdk_line)(int level, const char *line);
void lunette_spdk_log_to(lunette_spdk_line line);

/* "SPDK v26.05" and the like. */
const char *lunette_spdk_version(void);
