// Copyright: Contributors to the kiban.baremetal project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v11/controller"
)

// nfs makes directories in an export that is mounted at root.
type nfs struct {
	server, export, root string
}

func (n *nfs) Provision(_ context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	request := options.PVC.Spec.Resources.Requests[v1.ResourceStorage]
	var there syscall.Statfs_t
	if err := syscall.Statfs(n.root, &there); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("the export cannot be looked at: %w", err)
	}
	if free := int64(there.Bavail) * there.Bsize; request.Value() > free {
		return nil, controller.ProvisioningFinished,
			fmt.Errorf("%s is asked for and %s:%s has %d bytes free", request.String(), n.server, n.export, free)
	}
	place := filepath.Join(n.root, options.PVName)
	if err := os.Mkdir(place, 0o777); err != nil && !os.IsExist(err) {
		return nil, controller.ProvisioningFinished, err
	}
	// Pods have users of their own, and the kubelet changes no owners on NFS. The umask took the right away.
	if err := os.Chmod(place, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			MountOptions:                  options.StorageClass.MountOptions,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: request},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				NFS: &v1.NFSVolumeSource{Server: n.server, Path: filepath.Join(n.export, options.PVName)},
			},
		},
	}, controller.ProvisioningFinished, nil
}

func (n *nfs) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	source := volume.Spec.NFS
	if source == nil || source.Server != n.server || source.Path != filepath.Join(n.export, volume.Name) {
		return fmt.Errorf("it is not a directory of %s:%s that was made for %s: remove it by hand", n.server, n.export, volume.Name)
	}
	return removeDirectory(n.root, volume.Name)
}

// removeDirectory takes a volume out of sight first, so that a removal that was cut off never leaves half a volume under
// its name.
func removeDirectory(root, name string) error {
	place, gone := filepath.Join(root, name), filepath.Join(root, ".removed-"+name)
	if err := os.Rename(place, gone); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.RemoveAll(gone)
}
