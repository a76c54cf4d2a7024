"""What a user brings is taken apart, found, and judged by what the guest says."""

import io
import tempfile
import unittest
from contextlib import redirect_stderr
from pathlib import Path

from support.building import modules, own_driver
from support.errors import Refused
from support.judging import own_verdict
from support.judging.checks import check
from support.running import defects, run_options, session, vm
from support.running.console import Transcript


class Arguments(unittest.TestCase):
    """The command line of scripts/run."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="presil-test-")
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def file(self, name: str, text: str = "") -> Path:
        """A file to name on the command line."""
        path = self.scratch / name
        path.write_text(text, "utf-8")
        return path

    def test_module_has_parameters_whose_values_may_have_commas(self) -> None:
        path = self.file("my-gpu.ko")
        module = own_driver.parse_module(f"{path},sizes=1,2,3,debug=1")
        self.assertEqual((module.name, module.file), ("my_gpu", path))
        self.assertEqual(module.parameters, "sizes=1,2,3 debug=1")

    def test_module_without_a_path_is_one_of_the_tree(self) -> None:
        module = own_driver.parse_module("my-gpu,debug=1")
        self.assertEqual((module.name, module.file), ("my_gpu", None))

    def test_missing_files_are_named_with_their_option(self) -> None:
        for parse, option in [
            (own_driver.parse_module, "--module"), (own_driver.parse_file, "--guest-file"),
            (lambda text: own_driver.parse_script(Path(text)), "--guest-exec"),
        ]:
            with self.assertRaisesRegex(Refused, f"{option} nowhere/x.ko: no such file"):
                parse("nowhere/x.ko")

    def test_file_goes_to_root_or_where_it_is_told_to(self) -> None:
        path = self.file("tool")
        self.assertEqual(own_driver.parse_file(str(path)), (path, "root/tool"))
        told = own_driver.parse_file(f"{path}:/lib/firmware/a")
        self.assertEqual(told, (path, "lib/firmware/a"))
        with self.assertRaisesRegex(Refused, "absolute"):
            own_driver.parse_file(f"{path}:here")

    def test_script_of_a_shell_that_the_guest_lacks_is_refused(self) -> None:
        for good in ("#!/bin/sh\n", "#!/usr/bin/env sh\n", "echo\n", "\x7fELF"):
            own_driver.parse_script(self.file("good", good))
        for bad in ("#!/bin/bash\n", "#!/usr/bin/env python3\n"):
            with self.assertRaisesRegex(Refused, "busybox"):
                own_driver.parse_script(self.file("bad", bad))

    def test_what_follows_two_dashes_is_for_the_model(self) -> None:
        options = run_options.parse(["--shell", "--", "--defect", "copies"])
        self.assertEqual(run_options.guest(options).server_options[-2:], ["--defect", "copies"])

    def test_defects_go_to_the_model_and_are_told(self) -> None:
        options = run_options.parse(["--defect", "copies", "--defect", "fills,head-lags"])
        asked = list(run_options.guest(options).server_options)
        self.assertEqual(asked[-4:], ["--defect", "copies", "--defect", "fills,head-lags"])
        self.assertTrue(run_options.is_special(options), "a wrong name is refused at once")
        self.assertEqual(defects.asked(asked), ["copies", "fills", "head-lags"])
        self.assertEqual(defects.asked(["--defect=copies,fills", "--vsync"]), ["copies", "fills"])
        self.assertEqual(defects.asked(["--vram-seed", "7"]), [])

    def test_driver_of_a_broken_gpu_is_judged_only_if_that_is_asked_for(self) -> None:
        def judges(*words: str) -> bool:
            return run_options.guest(run_options.parse([*words])).checker is not None
        self.assertTrue(judges())
        self.assertFalse(judges("--defect", "copies"))
        self.assertFalse(judges("--", "--defect", "copies"))
        self.assertTrue(judges("--defect", "copies", "--check", "warn"))

    def test_vram_has_the_seed_that_the_user_gives(self) -> None:
        options = run_options.parse(["--", "--vram-seed", "7"])
        self.assertEqual(list(run_options.guest(options).server_options), ["--vram-seed", "7"])

    def test_machine_is_what_was_asked_for(self) -> None:
        guest = run_options.guest(run_options.parse([
            "--module", "drm_kms_helper,fbdev_emulation=0", "--ram", "2G", "--cpus", "3",
            "--gpus", "2", "--iommu", "--reboots", "4", "--qemu-arg", "-device edu",
            "--qemu-arg=-snapshot", "--append", "iommu.strict=0",
        ]))
        self.assertEqual((guest.ram, guest.cpus, guest.gpus, guest.boots), ("2G", 3, 2, 5))
        self.assertEqual((guest.action, guest.devices), ("own-reboot", vm.IOMMU))
        self.assertEqual(guest.more_qemu, ["-device", "edu", "-snapshot"])
        self.assertEqual(guest.kernel_arguments[-3:], [*vm.IOMMU_ARGUMENTS, "iommu.strict=0"])
        # Two of them as a pattern would take twice the host's memory.
        self.assertEqual(list(guest.server_options), [])
        command = session.server_command(Path("presil"), guest, session.Sockets(Path("g"), Path("c")))
        doors = ["--vfio-user", "g", "--vfio-user", "g1", "--control", "c"]
        self.assertEqual(command[2 : 2 + len(doors)], doors)

    def test_wrong_values_have_exit_status_2(self) -> None:
        own = ["--module", "drm"]
        for wrong, words in [
            (["--ram", "3.3G"], "expected a size"), (["--vram", "many"], "expected a size"),
            (["--cpus", "0"], "from 1 to"), (["--cpus", "2.5"], "from 1 to"),
            ([*own, "--gpus", "9"], "from 1 to 8"), (["--gpus", "2"], "the demo uses one"),
            (["--reboots", "-1"], "from 0 to"), (["--qemu-arg", "-a 'b"], "No closing quotation"),
            (["--iommu"], "needs --door vfio-user"), (["--fail-on", "misuse"], "of your own"),
            ([*own, "--fail-on", "all", "--shell"], "nothing is checked"),
            (["--reboots", "1", "--shell"], "nothing reboots"),
        ]:
            with (
                self.assertRaises(SystemExit) as ended,
                redirect_stderr(io.StringIO()) as said,
            ):
                run_options.parse(wrong)
            self.assertEqual(ended.exception.code, 2)
            self.assertIn(words, said.getvalue())

    def test_users_kernel_arguments_come_last(self) -> None:
        options = run_options.parse(["--module", "drm", "--append", "panic=0"])
        arguments = run_options.guest(options).kernel_arguments
        self.assertEqual(arguments[-1], "panic=0")
        self.assertIn("panic=5", arguments)

    def test_module_says_which_kernel_it_was_built_for(self) -> None:
        data = b"\x7fELF\0license=GPL\0vermagic=6.12.107+deb13-amd64 SMP preempt \0"
        self.assertEqual(modules.built_for(data), "6.12.107+deb13-amd64")
        self.assertEqual(modules.built_for(b"\x7fELF\0"), "")

    def test_dependencies_are_found_among_the_users_own_files_too(self) -> None:
        helper = self.file("helper.ko", "\0depends=\0")
        driver = self.file("gpu.ko", "\0depends=helper,drm\0")
        pool = modules.Pool({"helper": helper, "gpu": driver}, {"drm"}, "in the test")
        found = modules.in_order(["gpu"], pool, ["false"])
        self.assertEqual(list(found), ["helper", "gpu"])
        pool.builtin.clear()
        with self.assertRaisesRegex(Refused, "no module drm in the test, which gpu depends on"):
            modules.in_order(["gpu"], pool, ["false"])


def outcome(*lines: str, expired: bool = False) -> session.Outcome:
    """The outcome of a guest with this console, whose QEMU ended well."""
    transcript = Transcript()
    for line in lines:
        transcript.add(line)
    checks = [check("QEMU ended normally", True, "")]
    return session.Outcome(transcript, checks, {}, {}, expired, findings=[], last_lines=[])


LOADED = [
    '@presil {"loading":{}}', '@presil {"inserting":"a.ko"}',
    '@presil {"inserted":{"module":"a.ko","status":0,"said":" "}}', '@presil {"loaded":{}}',
]
DONE = '@presil {"done":{"ok":true}}'


class Verdicts(unittest.TestCase):
    """How a guest is judged."""

    def judged(self, *lines: str, script: str = "") -> session.Outcome:
        """A judged guest."""
        result = outcome(*lines)
        own_verdict.judge(result, Path(script) if script else None)
        return result

    def failed(self, result: session.Outcome) -> list[str]:
        """What failed, as it is shown."""
        return [f"{check['name']}: {check['detail']}" for check in result.checks if not check["ok"]]

    def test_loaded_module_and_quiet_kernel_pass(self) -> None:
        result = self.judged(*LOADED, DONE)
        self.assertEqual((self.failed(result), result.exit_status), ([], 0))

    def test_scripts_status_is_the_runs(self) -> None:
        result = self.judged(*LOADED, '@presil {"script":{}}', "hello", "[    1.000000] a: b",
                             '@presil {"script_ended":{"status":3}}', DONE, script="t.sh")
        self.assertEqual(self.failed(result), ["script t.sh: exit status 3"])
        self.assertEqual(result.exit_status, 3)
        self.assertEqual(result.script and result.script["output"], ["hello"])

    def test_checks_that_a_script_prints_are_the_runs(self) -> None:
        line = '@presil {"check":{"name":"rings","ok":false,"detail":"3 of 4"}}'
        transcript = outcome(*LOADED, '@presil {"script":{}}', line).transcript
        self.assertEqual(transcript.all("check")[0]["name"], "rings")
        result = self.judged(*LOADED, '@presil {"script":{}}', line, script="t.sh")
        self.assertEqual(result.script and result.script["output"], [])

    def test_report_of_the_kernel_fails_a_run_whose_script_is_content(self) -> None:
        result = self.judged(*LOADED, '@presil {"script":{}}', "[    1.000000] WARNING: at a.c:1",
                             '@presil {"script_ended":{"status":0}}', DONE, script="t.sh")
        self.assertEqual(self.failed(result), ["kernel log: warning: WARNING: at a.c:1"])
        self.assertEqual(result.exit_status, 1)

    def test_kernels_log_that_a_script_prints_is_its_output_and_no_second_result(self) -> None:
        line = "[    1.000000] gpu: ready"
        again = "[    0.900000] @presil 3 " + '{"inserted":{"module":"a.ko","status":1,"said":""}}'
        said = [text.replace(" {", f" {n} {{", 1) for n, text in enumerate(LOADED, 2)]
        result = self.judged('@presil 1 {"boot":{}}', *said, line, '@presil 6 {"script":{}}',
                             line, again, "bye[    1.100000] @presil 7 "
                             '{"script_ended":{"status":0}}', '@presil 8 {"done":{"ok":true}}',
                             script="t.sh")
        self.assertEqual((self.failed(result), result.transcript.broken), ([], []))
        self.assertEqual(result.script and result.script["output"], [line, "bye"])

    def test_refused_module_is_told_with_the_kernels_words(self) -> None:
        words = "[    1.000000] a: version magic '1' should be '2'"
        result = self.judged(
            *LOADED[:2], words, words,
            '@presil {"inserted":{"module":"a.ko","status":1,"said":"insmod: invalid format "}}',
            DONE, script="t.sh",
        )
        self.assertEqual(self.failed(result), [
            "module a.ko loads: insmod: invalid format; a: version magic '1' should be '2'",
            "script t.sh: it was not started",
        ])

    def test_what_the_kernel_says_of_its_clocks_meanwhile_hides_no_reason(self) -> None:
        clocks = ["tsc: Refined TSC clocksource calibration: 2596.121 MHz",
                  "clocksource: tsc: mask: 0xffffffffffffffff max_cycles: 0x1, max_idle_ns: 2 ns",
                  "clocksource: Switched to clocksource tsc"]
        result = self.judged(
            *LOADED[:2], "[    1.000000] a: version magic '1' should be '2'",
            *(f"[    2.000000] {words}" for words in clocks),
            '@presil {"inserted":{"module":"a.ko","status":1,"said":"insmod: invalid format "}}',
            DONE,
        )
        self.assertEqual(self.failed(result), [
            "module a.ko loads: insmod: invalid format; a: version magic '1' should be '2'",
        ])
        kernel_log = next(one for one in result.checks if one["name"] == "kernel log")
        self.assertNotIn("the host was slow", kernel_log["detail"])

    def test_module_whose_load_never_ends_is_told(self) -> None:
        self.assertEqual(self.failed(self.judged(*LOADED[:2])),
                         ["module a.ko loads: insmod did not come back"])

    def test_errors_of_drm_are_found_each_once(self) -> None:
        line = "[    1.000000] mygpu 0000:01:00.0: [drm] *ERROR* no ring"
        result = self.judged(*LOADED, line, line, DONE)
        self.assertEqual(result.drm_errors, ["mygpu 0000:01:00.0: [drm] *ERROR* no ring"])
        self.assertEqual(self.failed(result), [])

    def test_what_runs_is_left_running_only_where_no_driver_has_the_gpu(self) -> None:
        state = {"rings": [], "l1_valid": [], "bus_master": True}
        idle = {**state, "bus_master": False}
        virtio = {**state, "bus_master": None, "l1_valid": [1]}
        for bound, running, left in [
            ("true", [state], []), ("false", [state], [state]), ("", [state], [state]),
            ("false", [idle], []), ("", [virtio], []),
            ("true,false", [state, state], [state]), ("false", [], []),
        ]:
            result = outcome(*LOADED, f'@presil {{"done":{{"ok":true,"bound":[{bound}]}}}}')
            result.model["running"] = running
            own_verdict.judge(result, None)
            self.assertEqual(result.model["left_running"], left, (bound, running))

    def test_every_boot_is_judged_and_the_first_script_that_failed_is_told(self) -> None:
        def boot(status: int, *said: str) -> list[str]:
            messages = ['{"boot":{}}', '{"loading":{}}', '{"loaded":{}}', '{"script":{}}', *said,
                        f'{{"script_ended":{{"status":{status}}}}}', '{"done":{"ok":true}}']
            numbers = iter(range(1, 99))
            return [f"@presil {next(numbers)} {m}" if m[0] == "{" else m for m in messages]

        warning = "[    1.000000] WARNING: at a.c:1"
        result = self.judged(warning, *boot(0), warning, *boot(4, "second", warning),
                             *boot(5, "third"), script="t.sh")
        self.assertEqual(self.failed(result), [
            "boot 2: script t.sh: exit status 4",
            "boot 2: kernel log: warning: WARNING: at a.c:1",
            "boot 3: script t.sh: exit status 5",
        ])
        self.assertEqual(result.exit_status, 4)
        self.assertEqual(result.script and result.script["output"], ["second"])
        self.assertEqual(len(result.findings), 1)

    def test_time_limit_has_the_status_of_timeout(self) -> None:
        self.assertEqual(outcome(expired=True).exit_status, 124)

    def test_reports_while_the_kernel_boots_are_not_the_drivers(self) -> None:
        result = self.judged("[    0.100000] WARNING: at boot.c:1", *LOADED, DONE)
        self.assertEqual(self.failed(result), [])


if __name__ == "__main__":
    unittest.main()
