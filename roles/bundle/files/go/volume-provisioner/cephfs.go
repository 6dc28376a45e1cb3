// Copyright: Contributors to the kiban.baremetal project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v11/controller"
)

// https://docs.ceph.com/en/reef/cephfs/quota/
const quota = "ceph.quota.max_bytes"

// cephfs makes directories in a CephFS that every node has at mount, and this program at root.
type cephfs struct {
	client      kubernetes.Interface
	mount, root string
}

func (c *cephfs) Provision(_ context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	request := options.PVC.Spec.Resources.Requests[v1.ResourceStorage]
	if err := c.room(request.Value()); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := c.make(options.PVName, request.Value()); err != nil {
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
				// Fails where the file system is not mounted: the directory is in it alone.
				Local: &v1.LocalVolumeSource{Path: filepath.Join(c.mount, options.PVName)},
			},
			// Kubernetes wants to know the nodes of such a volume; it is on all.
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{
					{Key: v1.LabelOSStable, Operator: v1.NodeSelectorOpIn, Values: []string{"linux"}},
				},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// make has a directory that ends at so many bytes. Without the quota, as on any other file system, there is none.
func (c *cephfs) make(name string, bytes int64) error {
	place := filepath.Join(c.root, name)
	if err := os.Mkdir(place, 0o777); err != nil && !os.IsExist(err) {
		return err
	}
	if err := c.limit(name, bytes); err != nil {
		return err
	}
	// Pods have users of their own. The umask took the right away.
	return os.Chmod(place, 0o777)
}

func (c *cephfs) room(bytes int64) error {
	var there syscall.Statfs_t
	if err := syscall.Statfs(c.root, &there); err != nil {
		return fmt.Errorf("the file system cannot be looked at: %w", err)
	}
	if free := int64(there.Bavail) * there.Bsize; bytes > free {
		return fmt.Errorf("%s is asked for and the file system has %d bytes free", quantity(bytes), free)
	}
	return nil
}

func (c *cephfs) limit(name string, bytes int64) error {
	place := filepath.Join(c.root, name)
	if err := syscall.Setxattr(place, quota, []byte(strconv.FormatInt(bytes, 10)), 0); err != nil {
		return fmt.Errorf("%s can be given no size, so nothing of it is used: %w. Is CephFS mounted at %s?", place, err, c.mount)
	}
	return nil
}

// expand moves the end of a volume. Where it is mounted there is nothing to do, so the claim is told at once.
func (c *cephfs) expand(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	request, has := claim.Spec.Resources.Requests[v1.ResourceStorage], claim.Status.Capacity[v1.ResourceStorage]
	if claim.Status.Phase != v1.ClaimBound || request.Cmp(has) <= 0 {
		return nil
	}
	volume, err := c.client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if volume.Annotations[provisionedBy] != cephName || !c.isOurs(volume) {
		return nil
	}
	if err := c.room(request.Value() - has.Value()); err != nil {
		return err
	}
	if err := c.limit(volume.Name, request.Value()); err != nil {
		return err
	}
	// The claim first: the kubelet looks for work where a volume is larger than what its claim has.
	size := map[string]any{"capacity": map[string]string{"storage": quantity(request.Value())}}
	if _, err := c.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(
		ctx, claim.Name, types.StrategicMergePatchType, document(map[string]any{"status": size}), metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	_, err = c.client.CoreV1().PersistentVolumes().Patch(
		ctx, volume.Name, types.MergePatchType, document(map[string]any{"spec": size}), metav1.PatchOptions{})
	return err
}

func (c *cephfs) isOurs(volume *v1.PersistentVolume) bool {
	return volume.Spec.Local != nil && volume.Spec.Local.Path == filepath.Join(c.mount, volume.Name)
}

func (c *cephfs) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if !c.isOurs(volume) {
		return fmt.Errorf("it is not a directory of %s that was made for %s: remove it by hand", c.mount, volume.Name)
	}
	return removeDirectory(c.root, volume.Name)
}
