// Copyright: Contributors to the kiban.baremetal project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v11/controller"
)

const (
	iqnPrefix    = "iqn.2003-01.org.linux-iscsi.kiban:"
	chapUser     = "node.session.auth.username"
	chapPassword = "node.session.auth.password"
	fileSystem   = "ext4"
)

// iscsi makes logical volumes on the storage server and offers each by a target of its own: LUN 0, one CHAP password a
// volume, and only to the nodes of the site. The host's own program tells LIO, and does so again at boot from what is
// written in the directory offers.
type iscsi struct {
	client              kubernetes.Interface
	tools               tools
	namespace           string
	offers, program     string
	portals, initiators []string
}

type offer struct {
	Targets []target `json:"targets"`
}

type target struct {
	Target     string      `json:"target"`
	Portals    []string    `json:"portals"`
	LUNs       []lun       `json:"luns"`
	Initiators []initiator `json:"initiators"`
}

type lun struct {
	Device string `json:"device"`
}

type initiator struct {
	Name string            `json:"name"`
	CHAP map[string]string `json:"chap"`
}

func (i *iscsi) Provision(ctx context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	request := options.PVC.Spec.Resources.Requests[v1.ResourceStorage]
	size, err := i.tools.create(ctx, options.PVName, request.Value())
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	secret, err := i.secret(ctx, options.PVName)
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := i.write(options.PVName, secret); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := i.tell(ctx, i.offer(options.PVName)); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			MountOptions:                  options.StorageClass.MountOptions,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: *resource.NewQuantity(size, resource.BinarySI)},
			PersistentVolumeSource: v1.PersistentVolumeSource{ISCSI: &v1.ISCSIPersistentVolumeSource{
				TargetPortal:    i.portals[0],
				Portals:         i.portals[1:],
				IQN:             iqnPrefix + options.PVName,
				FSType:          fileSystem,
				SessionCHAPAuth: true,
				SecretRef:       &v1.SecretReference{Name: options.PVName, Namespace: i.namespace},
			}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete can be cut off anywhere and begins again: the device is freed last, and nothing offers it again meanwhile.
func (i *iscsi) Delete(ctx context.Context, volume *v1.PersistentVolume) error {
	source := volume.Spec.ISCSI
	if source == nil || source.IQN != iqnPrefix+volume.Name {
		return fmt.Errorf("it is not a target that was made for %s: remove it by hand", volume.Name)
	}
	place := i.offer(volume.Name)
	if _, err := os.Stat(filepath.Join(i.tools.root, place)); err == nil {
		if err := i.tell(ctx, "--withdraw", place); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(i.tools.root, place)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := i.tools.remove(ctx, volume.Name); err != nil {
		return err
	}
	err := i.client.CoreV1().Secrets(i.namespace).Delete(ctx, volume.Name, metav1.DeleteOptions{})
	if errors.IsNotFound(err) {
		return nil
	}
	return err
}

// secret gives the password of a volume, which is made once: the kubelet reads it where the volume is mounted.
func (i *iscsi) secret(ctx context.Context, name string) (string, error) {
	secrets := i.client.CoreV1().Secrets(i.namespace)
	found, err := secrets.Get(ctx, name, metav1.GetOptions{})
	if errors.IsNotFound(err) {
		found, err = secrets.Create(ctx, &v1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": i.namespace}},
			Type:       "kubernetes.io/iscsi-chap",
			Data:       map[string][]byte{chapUser: []byte("kiban"), chapPassword: []byte(rand.Text())},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return "", err
	}
	return string(found.Data[chapPassword]), nil
}

func (i *iscsi) offer(name string) string {
	return filepath.Join(i.offers, name+".json")
}

// write lays down what the host offers, whole or not at all.
func (i *iscsi) write(name, password string) error {
	one := target{Target: iqnPrefix + name, Portals: i.portals, LUNs: []lun{{i.tools.device(name)}}}
	for _, node := range i.initiators {
		one.Initiators = append(one.Initiators, initiator{node, map[string]string{"username": "kiban", "password": password}})
	}
	text, err := json.Marshal(offer{Targets: []target{one}})
	if err != nil {
		return err
	}
	place := filepath.Join(i.tools.root, i.offer(name))
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return err
	}
	// The program reads names that end in .json alone.
	if err := os.WriteFile(place+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(place+".new", place)
}

// tell has the host's program bring LIO in line. One command at a time, as with volumes.
func (i *iscsi) tell(ctx context.Context, args ...string) error {
	one.Lock()
	defer one.Unlock()
	_, err := i.tools.run(ctx, i.program, args...)
	return err
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}
