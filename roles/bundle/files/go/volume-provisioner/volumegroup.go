// Copyright: Contributors to the kiban.baremetal project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// A volume is new until what its first blocks held before is wiped: a file system of another would be mounted.
const (
	tagVolume = "kiban-volume"
	tagNew    = "kiban-new"
)

// tools runs the node's own LVM, on its own root: it knows the node's devices, locks and settings.
type tools struct {
	root, group string
}

// One command at a time: what was free must still be when the volume is made.
var one sync.Mutex

type noRoom struct{ group, asked string }

func (n noRoom) Error() string {
	return fmt.Sprintf("volume group %s has no room for %s", n.group, n.asked)
}

func (t tools) device(name string) string {
	return filepath.Join("/dev", t.group, name)
}

func (t tools) run(ctx context.Context, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	command.Dir = "/"
	if t.root != "/" {
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: t.root}
		if command.Path = name; !filepath.IsAbs(name) {
			command.Path = filepath.Join("/usr/sbin", name)
		}
		command.Err = nil
	}
	var said, wrong bytes.Buffer
	command.Stdout, command.Stderr = &said, &wrong
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, strings.TrimSpace(wrong.String()))
	}
	return strings.TrimSpace(said.String()), nil
}

func (t tools) free(ctx context.Context) (int64, error) {
	said, err := t.run(ctx, "vgs", "--noheadings", "--units=b", "--nosuffix", "--options=vg_free", t.group)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(said, 10, 64)
}

// find gives the size of a volume, 0 if there is none, and whether it is complete.
func (t tools) find(ctx context.Context, name string) (int64, bool, error) {
	said, err := t.run(ctx, "lvs", "--noheadings", "--units=b", "--nosuffix", "--separator=;",
		"--options=lv_size,lv_tags", "--select=lv_name="+name, t.group)
	if err != nil || said == "" {
		return 0, false, err
	}
	sized, tags, _ := strings.Cut(said, ";")
	size, err := strconv.ParseInt(sized, 10, 64)
	if err != nil {
		return 0, false, err
	}
	switch strings.TrimSpace(tags) {
	case tagVolume:
		return size, true, nil
	case tagNew:
		return size, false, nil
	}
	return 0, false, fmt.Errorf("the logical volume %s/%s was not made by this driver", t.group, name)
}

// create makes a volume of at least so many bytes, or finds it, and says its size.
func (t tools) create(ctx context.Context, name string, bytes int64) (int64, error) {
	one.Lock()
	defer one.Unlock()
	size, complete, err := t.find(ctx, name)
	if err != nil || complete {
		return size, err
	}
	if size > 0 {
		// Cut off before its old signatures were wiped: it was never given to anybody.
		if _, err := t.run(ctx, "lvremove", "--yes", t.group+"/"+name); err != nil {
			return 0, err
		}
	}
	free, err := t.free(ctx)
	if err != nil {
		return 0, err
	}
	if bytes > free {
		return 0, noRoom{t.group, strconv.FormatInt(bytes, 10) + " bytes"}
	}
	if _, err := t.run(ctx, "lvcreate", "--yes", "--wipesignatures=y", "--zero=y", "--addtag="+tagNew,
		"--size="+strconv.FormatInt(bytes, 10)+"b", "--name="+name, t.group); err != nil {
		return 0, err
	}
	if _, err := t.run(ctx, "lvchange", "--deltag="+tagNew, "--addtag="+tagVolume, t.group+"/"+name); err != nil {
		return 0, err
	}
	size, _, err = t.find(ctx, name)
	return size, err
}

func (t tools) extend(ctx context.Context, name string, bytes int64) (int64, error) {
	one.Lock()
	defer one.Unlock()
	size, complete, err := t.find(ctx, name)
	if err != nil || size >= bytes {
		return size, err
	}
	if !complete {
		return 0, fmt.Errorf("the logical volume %s/%s is not there", t.group, name)
	}
	free, err := t.free(ctx)
	if err != nil {
		return 0, err
	}
	if bytes-size > free {
		return 0, noRoom{t.group, strconv.FormatInt(bytes-size, 10) + " bytes more"}
	}
	if _, err := t.run(ctx, "lvextend", "--size="+strconv.FormatInt(bytes, 10)+"b", t.group+"/"+name); err != nil {
		return 0, err
	}
	size, _, err = t.find(ctx, name)
	return size, err
}

func (t tools) remove(ctx context.Context, name string) error {
	one.Lock()
	defer one.Unlock()
	size, _, err := t.find(ctx, name)
	if err != nil || size == 0 {
		return err
	}
	// Refused by itself while it is mounted.
	_, err = t.run(ctx, "lvremove", "--yes", t.group+"/"+name)
	return err
}
