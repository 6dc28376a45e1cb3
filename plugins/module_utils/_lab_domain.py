# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: not an interface, may change in any release.
# Describes a virtual server to libvirt.

from __future__ import annotations

import hashlib
import typing as t
import xml.etree.ElementTree as ET

__all__ = ["METADATA", "disk_path", "domain_xml", "fingerprint", "nvram_path"]

METADATA = "https://github.com/kiban/kiban.baremetal/lab"
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
# Without highres timers end with the next tick of 4 ms: programs in Go sleep for 20 microseconds again and again, and
# the end of each costs an emulated processor an interrupt and a switch. An idle control plane takes a fifth less.
# The last: a kernel turns its netfilter calls on by patching code that other processors run. QEMU's emulation of that
# fails now and then ("Oops: int3" in ip_rcv), so it happens before there is traffic and not when kube-proxy starts.
EMULATED_KERNEL_ARGS = "mitigations=off nowatchdog tsc=reliable highres=off nf_conntrack.enable_hooks=1"


def disk_path(directory: str, server: str, index: int) -> str:
    return f"{directory}/{server}/{index}.qcow2"


def nvram_path(directory: str, server: str) -> str:
    # The BMC renames the file to this suffix when a boot mode is set; starting with it keeps the variables.
    return f"{directory}/{server}/variables.nosecboot.fd"


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: t.Any) -> ET.Element:
    element = ET.SubElement(parent, tag, {key.rstrip("_"): str(value) for key, value in attributes.items()})
    element.text = text
    return element


def domain_xml(server: dict[str, t.Any], lab: dict[str, t.Any]) -> str:
    """Definition of one server. C(server): name, uuid, cpus, memory_mib, ports, disks. C(lab): disk_dir, console_dir,
    firmware, firmware_variables, kvm, emulator."""
    ET.register_namespace("qemu", QEMU)
    ET.register_namespace("kiban", METADATA)
    domain = ET.Element("domain", {"type": "kvm" if lab["kvm"] else "qemu"})
    _add(domain, "name", server["name"])
    _add(domain, "uuid", server["uuid"])
    _add(_add(domain, "metadata"), f"{{{METADATA}}}definition", sha256="")
    _add(domain, "memory", str(server["memory_mib"]), unit="MiB")
    _add(domain, "vcpu", str(server["cpus"]))
    # Without this key the firmware waits for IPv6 network boot to time out.
    firmware_config = _add(domain, "sysinfo", type="fwcfg")
    _add(firmware_config, "entry", "n", name="opt/org.tianocore/IPv6PXESupport")
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="q35")
    _add(system, "loader", lab["firmware"], readonly="yes", type="pflash")
    _add(system, "nvram", nvram_path(lab["disk_dir"], server["name"]), template=lab["firmware_variables"])
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "apic")
    _add(domain, "cpu", mode="host-passthrough" if lab["kvm"] else "maximum")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _add(domain, event, action)
    devices = _add(domain, "devices")
    _add(devices, "emulator", lab["emulator"])
    _devices(devices, server, lab)
    commandline = _add(domain, f"{{{QEMU}}}commandline")
    if not lab["kvm"]:
        # Linux trusts the time stamp counters of several processors only on Intel, unless told so. Without them each
        # look at the clock leaves the emulated processor: 1.2 to 4 microseconds instead of 0.1.
        # Wide vectors are emulated slowly: without them SHA-256 and AES-GCM of OpenSSL are 2.6 and 5 times as fast, and
        # SHA-256 of Go 2 times (QEMU 7.2).
        for setting in ("vendor=GenuineIntel", "avx=off", "avx2=off"):
            for value in ("-global", f"max-x86_64-cpu.{setting}"):
                _add(commandline, f"{{{QEMU}}}arg", value=value)
        # An emulated processor has no speculation to guard against, and a page table switch in each system call costs
        # it half of its time. systemd-boot takes more kernel arguments from the firmware tables (smbios(7) strings).
        for value in ("-smbios", f"type=11,value=io.systemd.boot.kernel-cmdline-extra={EMULATED_KERNEL_ARGS}"):
            _add(commandline, f"{{{QEMU}}}arg", value=value)
    for index, disk in enumerate(server["disks"]):
        if disk["bus"] == "nvme":
            _nvme(commandline, disk_path(lab["disk_dir"], server["name"], index), disk["serial"], index)
    # The definition carries its own checksum: libvirt and the BMC rewrite the rest of it.
    checksum = fingerprint(ET.tostring(domain, encoding="unicode"))
    stamp = domain.find(f"metadata/{{{METADATA}}}definition")
    if stamp is not None:
        stamp.set("sha256", checksum)
    return ET.tostring(domain, encoding="unicode")


def fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _devices(devices: ET.Element, server: dict[str, t.Any], lab: dict[str, t.Any]) -> None:
    order = 1
    for index, disk in enumerate(server["disks"]):
        if disk["bus"] == "nvme":
            continue
        element = _add(devices, "disk", type="file", device="disk")
        _add(element, "driver", name="qemu", type="qcow2", cache="unsafe", discard="unmap", detect_zeroes="unmap")
        _add(element, "source", file=disk_path(lab["disk_dir"], server["name"], index))
        prefix = "vd" if disk["bus"] == "virtio" else "sd"
        _add(element, "target", dev=f"{prefix}{chr(ord('a') + index)}", bus=disk["bus"])
        _add(element, "serial", disk["serial"])
        # Only the first disk is bootable; a BMC that overrides the boot device keeps this as what comes after it.
        if order == 1:
            _add(element, "boot", order=1)
            order += 1
    if any(disk["bus"] == "scsi" for disk in server["disks"]):
        _add(devices, "controller", type="scsi", index=0, model="virtio-scsi")
    for port in server["ports"]:
        element = _add(devices, "interface", type="ethernet")
        _add(element, "mac", address=port["mac"])
        _add(element, "target", dev=port["tap"], managed="no")
        _add(element, "model", type="virtio")
        # Packets cross a switch in user space, so they must be whole.
        driver = _add(element, "driver", name="qemu")
        off = dict.fromkeys(("csum", "tso4", "tso6", "ecn", "ufo"), "off")
        _add(driver, "host", gso="off", **off)
        _add(driver, "guest", **off)
        _add(element, "rom", enabled="no")
        _add(element, "mtu", size=port["mtu"])
    serial = _add(devices, "serial", type="pty")
    _add(serial, "log", file=f"{lab['console_dir']}/{server['name']}.log", append="on")
    _add(serial, "target", port=0)
    random = _add(devices, "rng", model="virtio")
    _add(random, "backend", "/dev/urandom", model="random")
    _add(devices, "memballoon", model="none")
    _add(_add(devices, "video"), "model", type="none")


def _nvme(commandline: ET.Element, path: str, serial: str, index: int) -> None:
    """libvirt knows NVMe disks only as devices passed through from the machine."""
    options = f"if=none,id=nvme{index},format=qcow2,cache=unsafe,discard=unmap,detect-zeroes=unmap,file={path}"
    device = f"nvme,drive=nvme{index},serial={serial},bus=pcie.0,addr=0x{0x10 + index:x}"
    for value in ("-drive", options, "-device", device):
        _add(commandline, f"{{{QEMU}}}arg", value=value)
