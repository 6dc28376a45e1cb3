# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that all kube_* modules share."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - The kubeconfig file, on the host where the module runs.
    type: path
    required: true
    version_added: 0.1.0
  kubectl:
    description:
      - The kubectl to run, on the host where the module runs. The bundle has one in its C(bin) directory.
    type: path
    default: kubectl
    version_added: 0.1.0
notes:
  - Run these modules on a host that reaches the API server; nothing but Python and kubectl is needed there.
  - kubectl keeps its cache in C(.kube-cache) beside the kubeconfig.
"""
