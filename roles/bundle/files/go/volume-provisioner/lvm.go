// Copyright: Contributors to the kiban.baremetal project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v11/controller"
)

const (
	selectedNode  = "volume.kubernetes.io/selected-node"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	lookEvery     = 30 * time.Second
)

// lvm makes logical volumes on this node. The scheduler knows the room of each node by its CSIStorageCapacity.
type lvm struct {
	client                 kubernetes.Interface
	tools                  tools
	node, class, namespace string
	changed                chan struct{}
}

func newLVM(client kubernetes.Interface, tools tools, node, class, namespace string) *lvm {
	return &lvm{client: client, tools: tools, node: node, class: class, namespace: namespace, changed: make(chan struct{}, 1)}
}

// ShouldProvision leaves claims of pods on other nodes to those.
func (l *lvm) ShouldProvision(_ context.Context, claim *v1.PersistentVolumeClaim) bool {
	return claim.Annotations[selectedNode] == l.node
}

// ShouldDelete leaves volumes on other nodes to those.
func (l *lvm) ShouldDelete(_ context.Context, volume *v1.PersistentVolume) bool {
	return l.isOurs(volume)
}

func (l *lvm) Provision(ctx context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	request := options.PVC.Spec.Resources.Requests[v1.ResourceStorage]
	defer l.look()
	size, err := l.tools.create(ctx, options.PVName, request.Value())
	if _, full := err.(noRoom); full {
		return nil, controller.ProvisioningReschedule, err
	}
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	filesystem := options.StorageClass.Parameters["fsType"]
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			MountOptions:                  options.StorageClass.MountOptions,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: *resource.NewQuantity(size, resource.BinarySI)},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				// The kubelet makes a file system on a blank device and mounts it.
				Local: &v1.LocalVolumeSource{Path: l.tools.device(options.PVName), FSType: &filesystem},
			},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{
					{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{l.node}},
				},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (l *lvm) Delete(ctx context.Context, volume *v1.PersistentVolume) error {
	defer l.look()
	return l.tools.remove(ctx, volume.Name)
}

func (l *lvm) isOurs(volume *v1.PersistentVolume) bool {
	source, affinity := volume.Spec.Local, volume.Spec.NodeAffinity
	if source == nil || affinity == nil || affinity.Required == nil || source.Path != l.tools.device(volume.Name) {
		return false
	}
	for _, term := range affinity.Required.NodeSelectorTerms {
		for _, each := range term.MatchExpressions {
			if each.Key == v1.LabelHostname && len(each.Values) == 1 && each.Values[0] == l.node {
				return true
			}
		}
	}
	return false
}

func (l *lvm) look() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// tellCapacity keeps the room of the volume group in a CSIStorageCapacity, by which the scheduler chooses nodes.
func (l *lvm) tellCapacity(ctx context.Context) {
	ticks := time.NewTicker(lookEvery)
	defer ticks.Stop()
	for {
		if err := l.tellOnce(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "the capacity could not be told")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		case <-l.changed:
		}
	}
}

func (l *lvm) tellOnce(ctx context.Context) error {
	free, err := l.tools.free(ctx)
	if err != nil {
		// Nothing is known to be there, so nothing is offered.
		free = 0
		klog.FromContext(ctx).Error(err, "the volume group cannot be looked at")
	}
	room := resource.NewQuantity(free, resource.BinarySI)
	told := l.client.StorageV1().CSIStorageCapacities(l.namespace)
	before, err := told.Get(ctx, "lvm-"+l.node, metav1.GetOptions{})
	if errors.IsNotFound(err) {
		_, err = told.Create(ctx, &storage.CSIStorageCapacity{
			ObjectMeta:        metav1.ObjectMeta{Name: "lvm-" + l.node, Labels: map[string]string{"app.kubernetes.io/part-of": "kiban-lvm"}},
			NodeTopology:      &metav1.LabelSelector{MatchLabels: map[string]string{v1.LabelHostname: l.node}},
			StorageClassName:  l.class,
			Capacity:          room,
			MaximumVolumeSize: room,
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil || before.Capacity != nil && before.Capacity.Cmp(*room) == 0 {
		return err
	}
	before.Capacity, before.MaximumVolumeSize = room, room
	_, err = told.Update(ctx, before, metav1.UpdateOptions{})
	return err
}

// watchClaims has volumes made larger whose claims ask for it. What failed is tried again at the next resync.
func watchClaims(ctx context.Context, client kubernetes.Interface, expand func(context.Context, *v1.PersistentVolumeClaim) error) {
	factory := informers.NewSharedInformerFactory(client, lookEvery)
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	look := func(object any) {
		claim, ok := object.(*v1.PersistentVolumeClaim)
		if !ok {
			return
		}
		if err := expand(ctx, claim); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "a volume could not be made larger", "claim", klog.KObj(claim))
		}
	}
	_, err := claims.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, now any) { look(now) },
	})
	if err != nil {
		klog.FromContext(ctx).Error(err, "claims cannot be watched")
		return
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
}

// expand makes the logical volume larger and leaves the file system to the kubelet, as an external resizer does:
// https://github.com/kubernetes/enhancements/tree/master/keps/sig-storage/1790-recover-resize-failure
func (l *lvm) expand(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	request, has := claim.Spec.Resources.Requests[v1.ResourceStorage], claim.Status.Capacity[v1.ResourceStorage]
	if claim.Status.Phase != v1.ClaimBound || request.Cmp(has) <= 0 || claim.Annotations[selectedNode] != l.node {
		return nil
	}
	volume, err := l.client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if volume.Annotations[provisionedBy] != lvmName || !l.isOurs(volume) {
		return nil
	}
	offered := volume.Spec.Capacity[v1.ResourceStorage]
	size := offered.Value()
	if request.Cmp(offered) > 0 {
		size, err = l.tools.extend(ctx, volume.Name, request.Value())
		l.look()
		if err != nil {
			return err
		}
	}
	// The claim first: the kubelet acts when the volume says that it is larger, and looks then at the claim.
	if claim.Status.AllocatedResourceStatuses[v1.ResourceStorage] == "" {
		now := map[string]any{"status": map[string]any{
			"allocatedResources":        map[string]string{"storage": quantity(size)},
			"allocatedResourceStatuses": map[string]string{"storage": string(v1.PersistentVolumeClaimNodeResizePending)},
			"conditions": []map[string]string{{
				"type": string(v1.PersistentVolumeClaimFileSystemResizePending), "status": "True",
				"message": "the file system grows where the volume is mounted",
			}},
		}}
		if _, err := l.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(
			ctx, claim.Name, types.StrategicMergePatchType, document(now), metav1.PatchOptions{}, "status"); err != nil {
			return err
		}
	}
	if size <= offered.Value() {
		return nil
	}
	now := map[string]any{"spec": map[string]any{"capacity": map[string]string{"storage": quantity(size)}}}
	_, err = l.client.CoreV1().PersistentVolumes().Patch(
		ctx, volume.Name, types.MergePatchType, document(now), metav1.PatchOptions{})
	return err
}

func quantity(bytes int64) string {
	return resource.NewQuantity(bytes, resource.BinarySI).String()
}

func document(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("strings and maps are always JSON: %v", err))
	}
	return text
}
