-- Images: volumes that new VMs' disks are made from, with what such VMs are like. Nothing writes to them while they are images.

create table inventory.image (
  name text primary key,
  store text not null,
  volume text not null,
  description text,
  -- What a VM of it gets where its request says nothing.
  memory_mib bigint,
  vcpus integer,
  firmware text,
  bus text,
  cloud_init boolean not null,
  added_at timestamptz not null default clock_timestamp(),
  added_by text not null,
  constraint one_image_a_volume unique (store, volume),
  constraint firmware_is_known check (firmware in ('bios', 'uefi')),
  constraint sizes_are_positive check (memory_mib > 0 and vcpus > 0)
);

grant select, insert, update, delete on inventory.image to taskomatic_client;
