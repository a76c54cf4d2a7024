// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A module that does on purpose what a driver must not, to see that
 * scripts/run calls it out. It needs no GPU.
 */
#include <linux/kthread.h>
#include <linux/module.h>

static char *how = "";
module_param(how, charp, 0444);
MODULE_PARM_DESC(how, "oops, warn, hang (a task that waits for ever), or fail (the load)");

static int wait_for_ever(void *unused)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_UNINTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static int __init misbehave_init(void)
{
	int *volatile nowhere = NULL;

	if (!strcmp(how, "oops"))
		*nowhere = 1;
	if (!strcmp(how, "fail")) {
		pr_err("misbehave: no such GPU\n");
		return -ENODEV;
	}
	if (!strcmp(how, "hang"))
		return PTR_ERR_OR_ZERO(kthread_run(wait_for_ever, NULL, "stuck"));
	WARN(!strcmp(how, "warn"), "misbehave: as asked\n");
	return 0;
}

static void __exit misbehave_exit(void)
{
}

module_init(misbehave_init);
module_exit(misbehave_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Does what a driver must not");
