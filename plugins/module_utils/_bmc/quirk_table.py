# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""The quirk table: which BMC (regular expressions over Identity), how it behaves (fields of Behaviour), who says so.

An entry without a public source does not belong here. `seen` says whether this project met it itself.
"""

from __future__ import annotations

import typing as t

__all__ = ("QUIRKS",)

QUIRKS: tuple[t.Mapping[str, t.Any], ...] = (
    {
        "name": "sushy-tools-boot-override",
        "match": {"root": r"^RedvirtService$"},
        "behaviour": {
            "boot_enabled_unreliable": True,
            "boot_always_overridden": True,
            "boot_reads_back": {"UefiHttp": "Pxe"},
            "boot_hints": {"cd": "This emulator takes Cd only while an image is inserted: use bmc_virtual_media first"},
        },
        "why": (
            "The system template always says Continuous; the libvirt driver maps UefiHttp to network boot and looks for"
            " a CD drive."
        ),
        "source": "https://opendev.org/openstack/sushy-tools/src/tag/2.2.0/sushy_tools/emulator/templates/system.json",
        "seen": True,
    },
    {
        "name": "supermicro-boot-mode",
        "match": {"manufacturer": r"^supermicro"},
        "behaviour": {"boot_sends_mode": True},
        "why": "Without BootSourceOverrideMode in the same request the mode goes back to Legacy.",
        "source": "https://github.com/DMTF/Redfishtool/pull/106; OpenStack ironic stories 2008547 and 2008712",
        "seen": False,
    },
    {
        "name": "ami-boot-settings",
        "match": {
            "manufacturer": r"^(gigabyte|giga computing|asrockrack|ami\b|american megatrends)",
            "system": r"^Self$",
        },
        "behaviour": {"boot_by_settings": True, "boot_sends_mode": True},
        "why": "The override is only writable on /Systems/Self/SD.",
        "source": "https://github.com/DMTF/Redfish-Tacklebox/issues/111 and /issues/144",
        "seen": False,
    },
    {
        "name": "xcc-media-slots",
        "match": {"vendor": r"^lenovo", "system": r"^1$"},
        "behaviour": {"media_slots": r"^EXT\d+$"},
        "why": (
            "Of the ten slots only EXT1 to EXT4 take a URL; RDOC and Remote belong to uploads and the remote console."
        ),
        "source": (
            "https://github.com/lenovo/python-redfish-lenovo/issues/21; https://github.com/stmcginnis/gofish/issues/529"
        ),
        "seen": False,
    },
    {
        "name": "lenovo-sr675-restart",
        "match": {"manufacturer": r"^lenovo", "model": r"SR675 V3"},
        "behaviour": {"restart_by_off_on": True},
        "why": "ForceRestart may leave the server hanging.",
        "source": "https://github.com/NVIDIA/libredfish (src/lenovo.rs)",
        "seen": False,
    },
    {
        "name": "dell-lldp",
        "match": {"vendor": r"^dell"},
        "behaviour": {
            "lldp": {
                "path": "/NetworkPorts/Oem/Dell/DellSwitchConnections",
                "port": "FQDD",
                "chassis_id": "SwitchConnectionID",
                "port_id": "SwitchPortConnectionID",
                "empty": ("No Link", "Not Available", "Not Supported", "Not Enabled"),
            },
        },
        "why": "LLDP neighbours are in an OEM collection; the network ports have none.",
        "source": "https://github.com/NVIDIA/libredfish (tests/mockups/dell)",
        "seen": False,
    },
    {
        "name": "dell-power-conflict",
        "match": {"vendor": r"^dell"},
        "behaviour": {"passing_refusals": ((409, "ActionParameterValueConflict", 75.0),)},
        "why": "iDRAC 10 refuses On for up to 60 s after a power-off.",
        "source": "https://opendev.org/openstack/ironic/src/branch/master/ironic/drivers/modules/redfish/power.py",
        "seen": False,
    },
    {
        "name": "dell-committed-settings",
        "match": {"vendor": r"^dell"},
        "behaviour": {"lasting_refusals": ("SYS011",)},
        "why": "Once a job holds the pending BIOS values, more are refused with 503 until the server has restarted.",
        "source": "https://github.com/dell/iDRAC-Redfish-Scripting/issues/249",
        "seen": False,
    },
    {
        "name": "dell-account-slots",
        "match": {"vendor": r"^dell"},
        "behaviour": {
            "user_slots_reserved": ("1",),
            "user_slot_emptied": ({"Enabled": False, "RoleId": "None"}, {"UserName": ""}),
        },
        "why": "Accounts are sixteen slots that are filled and emptied by PATCH; the first belongs to nobody.",
        "source": "https://github.com/NVIDIA/nv-redfish; https://github.com/bmc-toolbox/bmclib",
        "seen": False,
    },
    {
        "name": "gigabyte-bios-settings",
        "match": {
            "manufacturer": r"^(gigabyte|giga computing|asrockrack|ami\b|american megatrends)",
            "system": r"^Self$",
        },
        "behaviour": {"bios_settings": "/SD"},
        "why": "The BIOS names no settings object, though /Systems/Self/Bios/SD is there.",
        "source": "https://github.com/ansible-collections/community.general/pull/6434",
        "seen": False,
    },
    {
        "name": "xcc-firmware-versions",
        "match": {"vendor": r"^lenovo", "system": r"^1$"},
        "behaviour": {"firmware_version_prefix": "BUILD-"},
        "why": "Versions in the inventory begin with BUILD-.",
        "source": "https://github.com/NVIDIA/libredfish (src/lenovo.rs)",
        "seen": False,
    },
    {
        "name": "ilo-push",
        "match": {"vendor": r"^(hpe?$|hewlett)"},
        "behaviour": {"firmware_push_unusual": True},
        "why": "HttpPushUri is a page of the web interface that wants a form with a session key.",
        "source": "https://github.com/HewlettPackard/ilo-redfish-emulator (mockups)",
        "seen": False,
    },
    {
        "name": "ilo-certificate",
        "match": {"vendor": r"^(hpe?$|hewlett)"},
        "behaviour": {
            "certificate_import": {
                "path": "/SecurityService/HttpsCert",
                "action": "#HpeHttpsCert.ImportCertificate",
                "parameter": "Certificate",
            },
        },
        "why": "The certificate service makes requests, but a certificate is imported by an action of its own.",
        "source": "https://github.com/HewlettPackard/ilo-redfish-emulator (mockups)",
        "seen": False,
    },
    {
        "name": "ilo-busy-after-power",
        "match": {"vendor": r"^(hpe?$|hewlett)"},
        "behaviour": {
            "passing_refusals": (
                (400, "InvalidOperationForSystemState", 60.0),
                (400, "UnableToModifyDuringSystemPOST", 300.0),
            )
        },
        "why": "Shortly after a power change, and for boot settings during POST, iLO refuses.",
        "source": (
            "https://opendev.org/openstack/sushy (release notes); https://opendev.org/openstack/ironic"
            " (redfish/management.py)"
        ),
        "seen": False,
    },
    {
        "name": "supermicro-x11-usbcd",
        "match": {"manufacturer": r"^supermicro", "model": r"X1[12]"},
        "behaviour": {"boot_names": {"cd": "UsbCd"}},
        "why": "Virtual media is a USB CD there; Cd is accepted but does not boot from it.",
        "source": "https://opendev.org/openstack/sushy (sushy/resources/system/system.py)",
        "seen": False,
    },
    {
        "name": "dgx-media-credentials",
        "match": {"manufacturer": r"^nvidia"},
        "behaviour": {"media_extra": {"UserName": "", "Password": ""}},
        "why": "InsertMedia insists on UserName and Password.",
        "source": "https://bugs.launchpad.net/sushy/+bug/2071945",
        "seen": False,
    },
    {
        "name": "nokia-boot-settings",
        "match": {"manufacturer": r"^(nokia|zt)\b"},
        "behaviour": {"boot_by_settings": True, "media_extra": {"TransferProtocolType": "{scheme}"}},
        "why": "Boot overrides only through @Redfish.Settings; InsertMedia needs TransferProtocolType.",
        "source": "https://opendev.org/openstack/sushy (release notes)",
        "seen": False,
    },
    {
        "name": "openbmc-no-expand",
        "match": {"vendor": r"^openbmc"},
        "behaviour": {"no_expand": True},
        "why": "Compiled off by default and discouraged on production systems.",
        "source": "https://github.com/openbmc/bmcweb (meson.options)",
        "seen": False,
    },
)
