# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of BMCs that can be simulated. What differs from the specification is data, each with its public source.

Recorded trees bring their own shape; `shape` is for the synthetic tree that stands in where they are not at hand.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .profile import Profile

# Sources that are named often. A name with a number is an issue or pull request of that project.
TREE = "service tree of a real BMC"
ASSUMED = "assumed; nothing public tells"
INVENTED = "invented, to be as poor as can be"
SUSHY = "https://opendev.org/openstack/sushy (release notes)"
IRONIC = "https://opendev.org/openstack/ironic (drivers/modules/redfish)"
NV_REDFISH = "nv-redfish"
LIBREDFISH = "https://github.com/NVIDIA/libredfish"
BMCLIB = "https://github.com/bmc-toolbox/bmclib"
HPE = "HPE iLO Redfish documentation"
LENOVO = "Lenovo XCC REST API documentation"
BMCWEB = "https://github.com/openbmc/bmcweb"
GENERAL = "https://github.com/ansible-collections/community.general"

# Field of Profile, value, source.
Trait = tuple[str, Any, str]

DELL: tuple[Trait, ...] = (
    ("session_limit", 8, "https://github.com/bb-Ricardo/check_redfish/pull/198"),
    (
        "session_exhausted",
        (503, "IDRAC.2.8.RAC0218", "The maximum number of user sessions is reached."),
        "https://github.com/stmcginnis/gofish/issues/75",
    ),
    ("bios_needs_apply_time", True, "https://github.com/dell/iDRAC-Redfish-Scripting/issues/84"),
    ("bios_locked_by_job", True, "https://github.com/dell/iDRAC-Redfish-Scripting/issues/249"),
    ("bios_pending", "modified", f"{IRONIC} bios.py"),
    ("task_location", "job", f"{IRONIC} raid.py"),
    ("task_hidden", 2.0, SUSHY),
    ("task_first_state", "New", f"{IRONIC} firmware.py"),
    ("task_purged", 600.0, f"{IRONIC} firmware.py"),
    ("volume_apply_times", ("OnReset",), TREE),
    ("volume_delete_takes_apply_time", False, SUSHY),
    ("one_task_per_controller", True, f"{IRONIC} raid.py"),
    ("media_eject_seconds", 3.0, "https://storyboard.openstack.org/#!/story/2008504"),
    ("accounts", "slots", NV_REDFISH),
    (
        "action_if_match_refused",
        ("UpdateService.*",),
        "https://github.com/ironcore-dev/metal-operator/issues/1015",
    ),
)

TABLE: dict[str, dict[str, Any]] = {
    "well-behaved": {"what": "what the specification says, with everything that it offers", "traits": ()},
    "dell-idrac9": {
        "what": "PowerEdge R750, iDRAC 9 6.00",
        "tree": "dell-r750-idrac9",
        "shape": {
            "vendor": "Dell", "oem": "Dell", "product": "Integrated Dell Remote Access Controller",
            "manufacturer": "Dell Inc.", "model": "PowerEdge R750", "system": "System.Embedded.1",
            "manager": "iDRAC.Embedded.1", "manager_model": "14G Monolithic", "firmware": "6.00.30.00",
            "chassis": "System.Embedded.1", "expand_levels": 1, "bios_attributes": 445,
            "apply_times": ("OnReset", "AtMaintenanceWindowStart", "InMaintenanceWindowOnReset"),
            "volume_apply_times": ("OnReset",), "account_slots": 16, "inventory": 29,
            "jobs": True,
        },
        "traits": (*DELL, ("errors", "object", SUSHY)),
    },
    "dell-idrac10": {
        "what": "PowerEdge of generation 17, iDRAC 10",
        "shape": {
            "vendor": "Dell", "oem": "Dell", "product": "Integrated Dell Remote Access Controller",
            "manufacturer": "Dell Inc.", "model": "PowerEdge R770", "system": "System.Embedded.1",
            "manager": "iDRAC.Embedded.1", "manager_model": "17G Monolithic", "firmware": "1.20.25.00",
            "chassis": "System.Embedded.1", "expand_levels": 1, "bios_attributes": 445,
            "apply_times": ("OnReset", "AtMaintenanceWindowStart", "InMaintenanceWindowOnReset"),
            "volume_apply_times": ("OnReset",), "account_slots": 16, "inventory": 29,
            "jobs": True,
            "system_settings": "Settings", "boot_only_in_settings": True,
        },
        "traits": (
            *DELL,
            ("boot_on_settings", True, "https://github.com/dell/iDRAC-Redfish-Scripting/issues/324"),
            ("power_conflict", 60.0, f"{IRONIC} power.py"),
            (
                "power_conflict_answer",
                (409, "Base.1.18.ActionParameterValueConflict", "The value On conflicts with the state of the server."),
                f"{IRONIC} power.py",
            ),
        ),
    },
    "hpe-ilo5": {
        "what": "ProLiant Gen10, iLO 5",
        "shape": {
            "vendor": "HPE", "oem": "Hpe", "product": "ProLiant DL380 Gen10", "manufacturer": "HPE",
            "model": "ProLiant DL380 Gen10", "manager_model": "iLO 5", "firmware": "iLO 5 v3.04", "expand_levels": 1,
            "expand_kinds": ("NoLinks",), "bios": "bios", "bios_settings": "settings", "apply_times": (),
            "bios_attributes": 267, "volume_apply_times": (), "multipart": False, "push": "/cgi-bin/uploadFile",
            "inventory": 25, "log": "IML", "media": "Managers",
        },
        "traits": (
            ("any_case", True, TREE),
            ("session_timeout", 30, TREE),
            ("bios_pending", "all", f"{IRONIC} bios.py"),
            ("post_refuses", (400, "iLO.2.14.UnableToModifyDuringSystemPOST", ""), f"{IRONIC} management.py"),
            ("power_busy", 5.0, SUSHY),
            ("power_busy_answer", (400, "iLO.2.14.InvalidOperationForSystemState", ""), SUSHY),
            ("volumes_need_power", True, HPE),
            ("volume_apply_times", (), HPE),
            ("firmware_push", "push", TREE),
            ("firmware_staged", True, f"{IRONIC} firmware.py"),
            ("connection_requests", 20, f"{LIBREDFISH} (src/network.rs)"),
            ("gzip_always", ("/redfish/v1/Registries*",), SUSHY),
            ("identity_refused", ("/redfish/v1/Registries/*.json",), SUSHY),
        ),
    },
    "hpe-ilo6": {
        "what": "ProLiant DL380a Gen11, iLO 6 1.66",
        "tree": "hpe-dl380a-ilo6",
        "shape": {
            "vendor": "HPE", "oem": "Hpe", "product": "ProLiant DL380a Gen11", "manufacturer": "HPE",
            "model": "ProLiant DL380a Gen11", "manager_model": "iLO 6", "firmware": "iLO 6 v1.66", "expand_levels": 1,
            "expand_kinds": ("NoLinks",), "bios": "bios", "bios_settings": "settings", "apply_times": (),
            "bios_attributes": 290, "volume_apply_times": (), "multipart": False, "push": "/cgi-bin/uploadFile",
            "inventory": 50, "log": "IML", "media": "Managers",
        },
        "traits": (
            ("any_case", True, TREE),
            ("session_timeout", 30, TREE),
            ("bios_pending", "all", f"{IRONIC} bios.py"),
            ("post_refuses", (400, "iLO.2.21.UnableToModifyDuringSystemPOST", ""), f"{IRONIC} management.py"),
            ("power_busy", 5.0, SUSHY),
            ("power_busy_answer", (400, "iLO.2.21.InvalidOperationForSystemState", ""), SUSHY),
            ("volumes_need_power", True, HPE),
            ("volume_apply_times", (), TREE),
            ("firmware_push", "push", TREE),
            ("firmware_staged", True, f"{IRONIC} firmware.py"),
        ),
    },
    "lenovo-xcc": {
        "what": "ThinkSystem SR670 V2, XCC 2.83",
        "tree": "lenovo-sr670v2-xcc",
        "shape": {
            "vendor": "Lenovo", "oem": "Lenovo", "manufacturer": "Lenovo", "model": "ThinkSystem SR670 V2",
            "product": "", "manager_model": "Lenovo XClarity Controller", "firmware": "AFBT50C 2.83",
            "expand_levels": 2,
            "bios_settings": "Pending", "bios_attributes": 338, "apply_times": ("OnReset",),
            "system_settings": "Pending",
            "media_actions": False, "reset_info": True, "inventory": 43, "push": "/fwupdate",
            "boot_enabled": ("Once", "Disabled"),
            "media_slots": tuple((name, ("CD", "DVD", "Floppy", "USBStick")) for name in (
                "EXT1", "EXT2", "EXT3", "EXT4", "RDOC1", "RDOC2", "Remote1", "Remote2", "Remote3", "Remote4")),
        },
        "traits": (
            ("session_timeout", 300, TREE),
            ("bios_pending", "all", f"{IRONIC} bios.py"),
            ("media", "patch", TREE),
            ("media_slots", r"^EXT\d+$", "https://github.com/lenovo/python-redfish-lenovo/issues/21"),
            ("media_requires", ("Inserted",), "https://github.com/stmcginnis/gofish/issues/529"),
            ("if_match", "checked", f"{GENERAL}/issues/11261"),
            ("volume_requires", ("RAIDType", "Name"), LENOVO),
            ("volume_status", 201, LENOVO),
            ("volume_name_max", 15, LENOVO),
        ),
    },
    "supermicro-x11": {
        "what": "X11 board",
        "shape": {
            "vendor": "Supermicro", "oem": "Supermicro", "product": "", "media": "Managers",
            "manufacturer": "Supermicro", "model": "X11DPH-T",
            "manager_model": "ASPEED", "firmware": "01.73.06", "expand_levels": 0, "bios_settings": "SD",
            "apply_times": (), "boot_targets": ("None", "Pxe", "Hdd", "UsbCd", "BiosSetup"), "simple_update": False,
            "multipart": False, "volumes": False, "inventory": 4, "lldp": False,
        },
        "traits": (
            ("session_timeout", 300, TREE),
            ("expand", "absent", ASSUMED),
            ("bios_pending", "absent", LIBREDFISH),
            ("media_rejects", ("Inserted", "WriteProtected"), SUSHY),
            ("boot_needs_mode", True, "https://github.com/DMTF/Redfishtool/pull/106"),
            ("firmware_push", "none", BMCLIB),
        ),
    },
    "supermicro-x13": {
        "what": "SYS-821GE-TNHR, 11.01.01",
        "tree": "supermicro-821ge-x13",
        "shape": {
            "vendor": "", "oem": "Supermicro", "product": "", "media": "Managers",
            "manufacturer": "Supermicro", "model": "SYS-821GE-TNHR",
            "manager_model": "ASPEED", "firmware": "01.01.01", "expand_levels": 2, "bios_settings": "SD",
            "bios_attributes": 369, "apply_times": (), "reset_info": True, "volumes": False, "inventory": 106,
            "controllers": {"NVMeSSD": 8}, "boot_targets": ("None", "Pxe", "Floppy", "Cd", "Usb", "Hdd", "BiosSetup",
                                                            "UsbCd", "UefiBootNext", "UefiHttp"),
        },
        "traits": (
            ("session_timeout", 300, TREE),
            ("bios_pending", "absent", LIBREDFISH),
            ("media_eject_action_when_empty", False, TREE),
            ("boot_needs_mode", True, "https://github.com/DMTF/Redfishtool/pull/106"),
        ),
    },
    "ami-megarac": {
        "what": "MegaRAC SP-X, as on Gigabyte and ASRock Rack boards",
        "shape": {
            "vendor": "AMI", "oem": "Ami", "product": "AMI Redfish Server", "manufacturer": "Giga Computing",
            "model": "R283-S90", "system": "Self", "manager": "Self", "chassis": "Self", "manager_model": "AST2600",
            "firmware": "13.06.04", "expand_levels": 5, "bios_settings": "SD", "bios_names_settings": False,
            "bios_attributes": 300, "apply_times": (), "system_settings": "SD", "extra_systems": ("Capabilities",),
            "volumes": False, "inventory": 8, "media": "Managers",
        },
        "traits": (
            ("session_timeout", 30, TREE),
            ("etag", "weak", f"{GENERAL}/pull/6434"),
            ("if_match", "required", "confluent#274"),
            (
                "if_match_missing",
                (428, "Ami.1.0.PreconditionHeaderMissing", "A precondition header is missing."),
                "confluent#274",
            ),
            ("boot_on_settings", True, "https://github.com/DMTF/Redfish-Tacklebox/issues/111"),
            ("boot_needs_mode", True, f"{IRONIC} management.py"),
            ("expand", "cut", f"{NV_REDFISH}#118"),
            ("bios_pending", "all", f"{GENERAL}/pull/6434"),
        ),
    },
    "openbmc": {
        "what": "bmcweb as it is upstream",
        "shape": {
            "vendor": "OpenBMC", "product": "OpenBMC", "manufacturer": "Example", "model": "OpenBMC machine",
            "system": "system", "manager": "bmc", "chassis": "chassis", "manager_model": "OpenBmc",
            "firmware": "2.16.0-dev", "expand_levels": 0, "bios_attributes_at_all": False, "volumes": False,
            "push": "/redfish/v1/UpdateService/update", "simple_update": False, "controllers": {"1": 2},
            "boot_targets": ("None", "Pxe", "Hdd", "Cd", "Diags", "BiosSetup", "Usb"), "inventory": 3,
            "media": "Managers",
            "media_slots": (("Slot_0", ("CD", "USBStick")), ("Slot_1", ("CD", "USBStick"))),
        },
        "traits": (
            ("expand", "absent", f"{BMCWEB} (meson.options)"),
            ("task_location", "monitor", f"{BMCWEB} (redfish-core)"),
            ("monitor", "{tasks}/{id}/Monitor", f"{BMCWEB} (redfish-core)"),
            ("media_slots", "^Slot_1$", f"{IRONIC} boot.py"),
        ),
    },
    "minimal": {
        "what": "an old or cheap BMC: power and the barest inventory, no sessions, no $expand, no ETags, no BIOS",
        "shape": {
            "vendor": "", "product": "", "model": "Minimal", "expand_levels": 0, "processors": 1, "dimms": 2,
            "ports": 2,
            "controllers": {}, "inventory": 2, "bios_at_all": False, "update_service": False, "sessions": False,
            "volumes": False, "media": "", "boot_targets": ("None", "Pxe", "Hdd"), "lldp": False,
            "resets": ("On", "ForceOff", "ForceRestart"),
        },
        "traits": (
            ("etag", "none", INVENTED),
            ("if_match", "ignored", INVENTED),
            ("expand", "absent", INVENTED),
            ("errors", "plain", INVENTED),
            ("firmware_push", "none", INVENTED),
        ),
    },
}  # fmt: skip


def _profile(name: str, entry: dict[str, Any]) -> Profile:
    traits = {field: value for field, value, _source in entry["traits"]}
    return dataclasses.replace(Profile(), name=name, tree=entry.get("tree", ""), shape=entry.get("shape", {}), **traits)


PROFILES: dict[str, Profile] = {name: _profile(name, entry) for name, entry in TABLE.items()}
