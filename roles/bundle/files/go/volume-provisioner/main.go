// Copyright: Contributors to the kiban.baremetal project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Volume-provisioner makes and removes the volumes of the storage drivers nfs, ceph, lvm and iscsi. What it makes are
// PersistentVolumes of the kinds nfs, local and iscsi, which the kubelet mounts by itself: no node needs a CSI driver, and
// volumes that are mounted do not depend on this program.
//
//	volume-provisioner nfs  one for the cluster: a directory of an NFS export for each claim
//	volume-provisioner ceph one for the cluster: a directory of a CephFS for each claim
//	volume-provisioner lvm  one on each node that has the volume group: a logical volume for each claim
//	volume-provisioner iscsi  one, on the storage server: a logical volume for each claim, offered by LIO
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v11/controller"
)

const (
	nfsName   = "nfs.kiban.baremetal"
	cephName  = "ceph.kiban.baremetal"
	lvmName   = "lvm.kiban.baremetal"
	iscsiName = "iscsi.kiban.baremetal"
)

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "volume-provisioner:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: volume-provisioner nfs|ceph|lvm|iscsi [options]")
	}
	flags := flag.NewFlagSet(args[1], flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "outside a cluster, the file with the way to the API server")
	server := flags.String("server", "", "nfs: address of the server")
	export := flags.String("export", "", "nfs: path of the export on the server; ceph: where nodes have the file system")
	root := flags.String("root", "/export", "nfs, ceph: where that is mounted here; lvm, iscsi: where the node's / is")
	node := flags.String("node", "", "lvm: name of this node")
	group := flags.String("volume-group", "", "lvm, iscsi: name of the volume group")
	class := flags.String("class", "", "lvm: storage class whose capacity is told")
	namespace := flags.String("namespace", "", "lvm: where the capacity is told; iscsi: where the passwords are")
	portals := flags.String("portals", "", "iscsi: address:port of this server, separated by commas")
	initiators := flags.String("initiators", "", "iscsi: names (IQN) of the nodes, separated by commas")
	offers := flags.String("offers", "/etc/kiban/block-target.d", "iscsi: directory on the node for what it offers")
	program := flags.String("program", "/usr/local/sbin/kiban-block-target", "iscsi: the node's program that offers it")
	if err := flags.Parse(args[2:]); err != nil {
		return err
	}
	config, err := access(*kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(klog.NewContext(context.Background(), klog.Background()), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	switch args[1] {
	case "nfs":
		if *server == "" || *export == "" {
			return fmt.Errorf("nfs needs --server and --export")
		}
		provision(ctx, client, nfsName, &nfs{server: *server, export: *export, root: *root})
	case "ceph":
		if *export == "" {
			return fmt.Errorf("ceph needs --export")
		}
		volumes := &cephfs{client: client, mount: *export, root: *root}
		go watchClaims(ctx, client, volumes.expand)
		provision(ctx, client, cephName, volumes)
	case "lvm":
		if *node == "" || *group == "" || *class == "" || *namespace == "" {
			return fmt.Errorf("lvm needs --node, --volume-group, --class and --namespace")
		}
		volumes := newLVM(client, tools{root: *root, group: *group}, *node, *class, *namespace)
		go volumes.tellCapacity(ctx)
		go watchClaims(ctx, client, volumes.expand)
		provision(ctx, client, lvmName, volumes)
	case "iscsi":
		volumes := &iscsi{
			client: client, tools: tools{root: *root, group: *group}, namespace: *namespace,
			offers: *offers, program: *program, portals: list(*portals), initiators: list(*initiators),
		}
		if *group == "" || *namespace == "" || len(volumes.portals) == 0 || len(volumes.initiators) == 0 {
			return fmt.Errorf("iscsi needs --volume-group, --namespace, --portals and --initiators")
		}
		provision(ctx, client, iscsiName, volumes)
	default:
		return fmt.Errorf("there is no driver %q: nfs, ceph, lvm or iscsi", args[1])
	}
	return nil
}

func access(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	return rest.InClusterConfig()
}

// provision serves the claims of one driver until ctx ends. There is one process for each volume, by the driver's
// deployment: no leader is elected.
func provision(ctx context.Context, client kubernetes.Interface, name string, driver controller.Provisioner) {
	controller.NewProvisionController(
		ctx, client, name, driver,
		controller.LeaderElection(false),
		// A claim that cannot be served now may be later: room is made, an export comes back.
		controller.FailedProvisionThreshold(0),
		controller.FailedDeleteThreshold(0),
	).Run(ctx)
}
