# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs sushy-emulator as the BMC of one server: it shows no other server and keeps connections open.

Usage: bmc.py CONFIGURATION.json SERVER
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import sys


def configure(configuration: dict, name: str) -> dict:
    """Settings of the emulator for one server."""
    bmc = configuration["bmcs"][name]
    home = os.path.join(configuration["directory"], "bmc", name)
    uuid = bmc["uuid"]
    kinds = {"virtio": "VirtIO", "scsi": "SCSI", "nvme": "NVMe"}
    values = {
        "LIBVIRT_URI": configuration["uri"],
        "AUTH_FILE": os.path.join(configuration["directory"], "htpasswd"),
        "STATE_DIR": os.path.join(home, "state"),
        "FEATURE_SET": "full",
        # A BMC of the lab fetches media over plain HTTP from the control host.
        "VMEDIA_VERIFY_SSL": False,
        "BOOT_LOADER_MAP": {"UEFI": {"x86_64": configuration["firmware"]}, "Legacy": {"x86_64": None}},
        "SECURE_BOOT_DISABLED_NVRAM": configuration["firmware_variables"],
        "STORAGE": {
            uuid: [
                {
                    "Id": "1",
                    "Name": "Disks",
                    "StorageControllers": [{"MemberId": "0", "Name": "Disks", "SpeedGbps": 12}],
                    "Drives": [disk["serial"] for disk in bmc["disks"]],
                }
            ]
        },
        "DRIVES": {
            (uuid, "1"): [
                {
                    "Id": disk["serial"],
                    "Name": disk["serial"],
                    "CapacityBytes": disk["size_gib"] * 1024**3,
                    "Protocol": kinds[disk["bus"]],
                }
                for disk in bmc["disks"]
            ]
        },
    }
    return {f"SUSHY_EMULATOR_{key}": value for key, value in values.items()}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as stream:
        configuration = json.load(stream)
    name = sys.argv[2]
    bmc = configuration["bmcs"][name]
    settings = configure(configuration, name)
    os.makedirs(settings["SUSHY_EMULATOR_STATE_DIR"], exist_ok=True)
    # Media are downloaded into the directory for temporary files first.
    os.environ["TMPDIR"] = os.path.join(configuration["directory"], "bmc", name, "tmp")
    os.makedirs(os.environ["TMPDIR"], exist_ok=True)

    import libvirt
    from sushy_tools import error
    from sushy_tools.emulator import main as emulator
    from sushy_tools.emulator.resources.systems import libvirtdriver
    from werkzeug.serving import WSGIRequestHandler

    # The emulator handles errors of libvirt; its library prints each of them as well.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    driver = libvirtdriver.LibvirtDriver
    look_up = driver._get_domain

    def own_domain(self, identity, *args, **kwargs):
        if identity != bmc["uuid"]:
            raise error.NotFound(f"no system {identity}")
        return look_up(self, identity, *args, **kwargs)

    def keep_image(self, domain, conn, boot_image):
        path = os.path.join(configuration["directory"], "media", f"{name}.iso")
        if os.path.exists(path):
            os.unlink(path)
        os.link(boot_image, path)
        return path

    # What was downloaded is on the disk of the virtual servers already: there is nothing to upload through libvirt.
    driver._upload_image = keep_image
    # The emulator's own list of allowed instances covers neither managers nor virtual media, and answers with 500.
    driver._get_domain = own_domain
    driver.systems = property(lambda self: [bmc["uuid"]])
    # One connection to libvirt serves all requests: opening one costs more than the rest of a request. When libvirtd is
    # started again, so is this process.
    connection = libvirt.open(configuration["uri"])
    libvirtdriver.libvirt_open = lambda _uri, readonly=False: contextlib.nullcontext(connection)
    # A BMC keeps a connection open for further requests; the development server does not unless told so.
    WSGIRequestHandler.protocol_version = "HTTP/1.1"

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    directory = os.path.join(configuration["directory"], "tls")
    tls.load_cert_chain(os.path.join(directory, f"{name}.pem"), os.path.join(directory, f"{name}.key"))
    emulator.app.configure(extra_config=settings)
    emulator.app.run(host=bmc["address"], port=configuration["port"], ssl_context=tls, threaded=True)


if __name__ == "__main__":
    main()
