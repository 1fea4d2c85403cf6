BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0007');
CREATE TABLE alerts (
	id INTEGER NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	subject VARCHAR(200) NOT NULL, 
	detail TEXT NOT NULL, 
	count INTEGER NOT NULL, 
	opened_at DATETIME NOT NULL, 
	last_at DATETIME NOT NULL, 
	closed_at DATETIME, 
	CONSTRAINT pk_alerts PRIMARY KEY (id)
);
INSERT INTO "alerts" VALUES(1,'destination_down','archive','ARCHIVE at 127.0.0.1:50831 cannot be reached, or aborted the association',6,'2026-11-28 03:13:59.046656','2026-11-28 03:14:47.265283',NULL);
INSERT INTO "alerts" VALUES(2,'receiver_down','pager','127.0.0.1: Connection refused',1,'2026-11-28 03:14:59.433771','2026-11-28 03:14:59.433771',NULL);
CREATE TABLE commitments (
	id INTEGER NOT NULL, 
	transaction_uid VARCHAR(64) NOT NULL, 
	destination VARCHAR(64) NOT NULL, 
	asked_at DATETIME NOT NULL, 
	answered_at DATETIME, 
	CONSTRAINT pk_commitments PRIMARY KEY (id), 
	CONSTRAINT uq_commitments_transaction_uid UNIQUE (transaction_uid)
);
CREATE TABLE instances (
	id INTEGER NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	is_current BOOLEAN NOT NULL, 
	study_uid VARCHAR(64) NOT NULL, 
	series_uid VARCHAR(64) NOT NULL, 
	sop_class_uid VARCHAR(64) NOT NULL, 
	transfer_syntax_uid VARCHAR(64) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	path VARCHAR(300) NOT NULL, 
	size BIGINT NOT NULL, 
	received_at DATETIME NOT NULL, 
	calling_ae VARCHAR(16) NOT NULL, 
	calling_address VARCHAR(64) NOT NULL, 
	is_own_result BOOLEAN NOT NULL, purged_at DATETIME, 
	CONSTRAINT pk_instances PRIMARY KEY (id), 
	CONSTRAINT uq_instances_sop_instance_uid UNIQUE (sop_instance_uid, sha256)
);
INSERT INTO "instances" VALUES(1,'2.25.137587522718889171480651951066959529664',1,1,'2.25.257079904698118139249626482632188478075','2.25.95212619017928748003674340093351251349','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','6ad93940d0f12a707fe93c6b6546c4295c96d78cbef555436d1dc9bc8a1891d7','instances/2.25.257079904698118139249626482632188478075/2.25.95212619017928748003674340093351251349/2.25.137587522718889171480651951066959529664-6ad93940d0f12a70.dcm',402950,'2026-11-28 03:13:42.720897','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(2,'2.25.94398349893629367178673043815819579077',1,1,'2.25.257079904698118139249626482632188478075','2.25.95212619017928748003674340093351251349','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','3d59f295a594792666eaa7806730f5a66630092d11303e19b4818491d4e2048b','instances/2.25.257079904698118139249626482632188478075/2.25.95212619017928748003674340093351251349/2.25.94398349893629367178673043815819579077-3d59f295a5947926.dcm',402950,'2026-11-28 03:13:42.801384','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(3,'2.25.149524825181808011698104608166487239517',1,1,'2.25.257079904698118139249626482632188478075','2.25.95212619017928748003674340093351251349','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','41e0781f34dc3fd0fb75f003a077e794b9958e245a369752fc314e317fea3eb6','instances/2.25.257079904698118139249626482632188478075/2.25.95212619017928748003674340093351251349/2.25.149524825181808011698104608166487239517-41e0781f34dc3fd0.dcm',402950,'2026-11-28 03:13:42.847792','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(4,'2.25.41892480133714318988532545750107280533',1,1,'2.25.257079904698118139249626482632188478075','2.25.95212619017928748003674340093351251349','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','11032086538357f4810dbd8cecabd04aa1930db47e976096fbe4a5c44433c253','instances/2.25.257079904698118139249626482632188478075/2.25.95212619017928748003674340093351251349/2.25.41892480133714318988532545750107280533-11032086538357f4.dcm',402950,'2026-11-28 03:13:43.316965','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(5,'2.25.289033164563336036205365652194804256430',1,1,'2.25.257079904698118139249626482632188478075','2.25.95212619017928748003674340093351251349','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','e7f13d5b9d46ded38fae858305086f5592b1695407b5b66f043c294e258616b8','instances/2.25.257079904698118139249626482632188478075/2.25.95212619017928748003674340093351251349/2.25.289033164563336036205365652194804256430-e7f13d5b9d46ded3.dcm',402950,'2026-11-28 03:13:43.423791','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(6,'1.2.826.0.1.3680043.10.1.1.1',1,1,'1.2.826.0.1.3680043.10.1','1.2.826.0.1.3680043.10.1.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','a3cda1c33c4e7f55f4e5964721c34f98978f8131ea4b7c1f4c16f747a602dbb2','instances/1.2.826.0.1.3680043.10.1/1.2.826.0.1.3680043.10.1.1/1.2.826.0.1.3680043.10.1.1.1-a3cda1c33c4e7f55.dcm',852,'2026-11-28 03:13:43.543932','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(7,'1.2.826.0.1.3680043.10.1.1.2',1,1,'1.2.826.0.1.3680043.10.1','1.2.826.0.1.3680043.10.1.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','a29372e961a8f29717ac32f14f6e0c1808622e825052f2aba4ab79fe68504785','instances/1.2.826.0.1.3680043.10.1/1.2.826.0.1.3680043.10.1.1/1.2.826.0.1.3680043.10.1.1.2-a29372e961a8f297.dcm',852,'2026-11-28 03:13:43.631787','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(8,'1.2.826.0.1.3680043.10.1.1.3',1,1,'1.2.826.0.1.3680043.10.1','1.2.826.0.1.3680043.10.1.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','da465275d6a2d91494c77b8e0a31c1f3b2ca64eb966a700ec92537d17d91f7bb','instances/1.2.826.0.1.3680043.10.1/1.2.826.0.1.3680043.10.1.1/1.2.826.0.1.3680043.10.1.1.3-da465275d6a2d914.dcm',852,'2026-11-28 03:13:43.695610','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(9,'1.2.826.0.1.3680043.10.1.1.4',1,1,'1.2.826.0.1.3680043.10.1','1.2.826.0.1.3680043.10.1.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','7747c32ddde73e28c5db0383f018d4abedf33bd62a55916c1e3a40c07e06b545','instances/1.2.826.0.1.3680043.10.1/1.2.826.0.1.3680043.10.1.1/1.2.826.0.1.3680043.10.1.1.4-7747c32ddde73e28.dcm',852,'2026-11-28 03:13:43.781284','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(10,'1.2.826.0.1.3680043.10.1.1.5',1,1,'1.2.826.0.1.3680043.10.1','1.2.826.0.1.3680043.10.1.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','898e801d33d3a84f881c9b0ae0f9bc07791136576a9d3955448033dd4a403345','instances/1.2.826.0.1.3680043.10.1/1.2.826.0.1.3680043.10.1.1/1.2.826.0.1.3680043.10.1.1.5-898e801d33d3a84f.dcm',852,'2026-11-28 03:13:43.903406','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(11,'1.2.826.0.1.3680043.10.2.1.1',1,1,'1.2.826.0.1.3680043.10.2','1.2.826.0.1.3680043.10.2.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','71e8a20c8809454cd525130d3b9ab619505e7e862a6cc7c08970e2852f4128e1','instances/1.2.826.0.1.3680043.10.2/1.2.826.0.1.3680043.10.2.1/1.2.826.0.1.3680043.10.2.1.1-71e8a20c8809454c.dcm',852,'2026-11-28 03:14:47.065893','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(12,'1.2.826.0.1.3680043.10.2.1.2',1,1,'1.2.826.0.1.3680043.10.2','1.2.826.0.1.3680043.10.2.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','b7c2be2dc9de2db00c45e0edc041fdc08ff34e474c89732ebe0d22392d919e66','instances/1.2.826.0.1.3680043.10.2/1.2.826.0.1.3680043.10.2.1/1.2.826.0.1.3680043.10.2.1.2-b7c2be2dc9de2db0.dcm',852,'2026-11-28 03:14:47.358749','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(13,'1.2.826.0.1.3680043.10.2.1.3',1,1,'1.2.826.0.1.3680043.10.2','1.2.826.0.1.3680043.10.2.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','66df3a38a31e5d4880c2985ec1802aec4bf42140567f7894e04184968b21e74b','instances/1.2.826.0.1.3680043.10.2/1.2.826.0.1.3680043.10.2.1/1.2.826.0.1.3680043.10.2.1.3-66df3a38a31e5d48.dcm',852,'2026-11-28 03:14:47.456146','ROUTER','127.0.0.1',0,NULL);
INSERT INTO "instances" VALUES(14,'1.2.826.0.1.3680043.10.3.1.1',1,1,'1.2.826.0.1.3680043.10.3','1.2.826.0.1.3680043.10.3.1','1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1','7a74e78cf3e6365d7070b1cebaa83fc46c04cd2ba6f42341191a59dbf98e58c8','instances/1.2.826.0.1.3680043.10.3/1.2.826.0.1.3680043.10.3.1/1.2.826.0.1.3680043.10.3.1.1-7a74e78cf3e6365d.dcm',852,'2026-11-28 03:14:59.518078','ROUTER','127.0.0.1',0,NULL);
CREATE TABLE job_events (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	event VARCHAR(32) NOT NULL, 
	from_state VARCHAR(16) NOT NULL, 
	to_state VARCHAR(16) NOT NULL, 
	detail TEXT NOT NULL, 
	CONSTRAINT pk_job_events PRIMARY KEY (id), 
	CONSTRAINT fk_job_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "job_events" VALUES(1,1,'2026-11-28 03:13:47.002030','claimed','waiting','running','vm:1824');
INSERT INTO "job_events" VALUES(2,1,'2026-11-28 03:13:57.485383','succeeded','running','done','analysed');
INSERT INTO "job_events" VALUES(3,2,'2026-11-28 03:13:57.513932','claimed','waiting','running','vm:1824');
INSERT INTO "job_events" VALUES(4,2,'2026-11-28 03:13:59.353413','succeeded','running','done','not analysable: unreadable_pixels: the middle slices are blank or hold values that are not finite');
CREATE TABLE jobs (
	id INTEGER NOT NULL, 
	study_uid VARCHAR(64) NOT NULL, 
	generation INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	priority INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	not_before DATETIME NOT NULL, 
	created_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	lease_token VARCHAR(32), 
	lease_owner VARCHAR(100), 
	heartbeat INTEGER NOT NULL, 
	input_hash VARCHAR(64), 
	result_id INTEGER, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT ck_jobs_lease CHECK ((state = 'running') = (lease_token IS NOT NULL)), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('waiting', 'running', 'done', 'failed')), 
	CONSTRAINT ck_jobs_attempts CHECK (attempts >= 0), 
	CONSTRAINT fk_jobs_result_id FOREIGN KEY(result_id) REFERENCES results (id), 
	CONSTRAINT fk_jobs_study_uid FOREIGN KEY(study_uid) REFERENCES studies (study_uid)
);
INSERT INTO "jobs" VALUES(1,'2.25.257079904698118139249626482632188478075',1,'done',0,1,'2026-11-28 03:13:46.144144','2026-11-28 03:13:46.144144','2026-11-28 03:13:57.485374',NULL,NULL,2,'15c7330e58eddc182bb87419005c982f127d847ce9d50ba68d92400ece29dec7',1,'analysed');
INSERT INTO "jobs" VALUES(2,'1.2.826.0.1.3680043.10.1',1,'done',0,1,'2026-11-28 03:13:46.144144','2026-11-28 03:13:46.144144','2026-11-28 03:13:59.353399',NULL,NULL,1,'2cdd254021cd98d5c51a7d7070489d9ddbdf850ec713a9c323b86cfb34db7074',2,'not analysable: unreadable_pixels: the middle slices are blank or hold values that are not finite');
INSERT INTO "jobs" VALUES(3,'1.2.826.0.1.3680043.10.2',1,'waiting',0,0,'2026-11-28 03:14:49.572304','2026-11-28 03:14:49.572304',NULL,NULL,NULL,0,NULL,NULL,'');
CREATE TABLE notices (
	id INTEGER NOT NULL, 
	alert_id INTEGER NOT NULL, 
	receiver VARCHAR(64) NOT NULL, 
	told_at DATETIME NOT NULL, 
	is_over BOOLEAN NOT NULL, 
	CONSTRAINT pk_notices PRIMARY KEY (id), 
	CONSTRAINT fk_notices_alert_id FOREIGN KEY(alert_id) REFERENCES alerts (id), 
	CONSTRAINT uq_notices_alert_id UNIQUE (alert_id, receiver)
);
CREATE TABLE "outbox" (
	id INTEGER NOT NULL, 
	result_file_id INTEGER NOT NULL, 
	study_uid VARCHAR(64) NOT NULL, 
	destination VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_attempt_at DATETIME NOT NULL, 
	created_at DATETIME NOT NULL, 
	sent_at DATETIME, 
	last_status INTEGER, 
	last_message TEXT NOT NULL, 
	is_bound BOOLEAN DEFAULT 0 NOT NULL, 
	proof VARCHAR(16) DEFAULT 'none' NOT NULL, 
	proof_at DATETIME, 
	proof_attempts INTEGER DEFAULT '0' NOT NULL, 
	losses INTEGER DEFAULT '0' NOT NULL, 
	transaction_uid VARCHAR(64), 
	CONSTRAINT pk_outbox PRIMARY KEY (id), 
	CONSTRAINT fk_outbox_result_file_id FOREIGN KEY(result_file_id) REFERENCES result_files (id), 
	CONSTRAINT ck_outbox_state CHECK (state IN ('waiting', 'sent', 'failed')), 
	CONSTRAINT uq_outbox_result_file_id UNIQUE (result_file_id, destination), 
	CONSTRAINT ck_outbox_proof CHECK (proof IN ('none', 'wanted', 'asked', 'committed', 'found'))
);
INSERT INTO "outbox" VALUES(1,2,'2.25.257079904698118139249626482632188478075','pacs','sent',1,'2026-11-28 03:13:57.471221','2026-11-28 03:13:57.471221','2026-11-28 03:13:58.981748',0,'0x0000 stored',1,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(2,2,'2.25.257079904698118139249626482632188478075','archive','waiting',3,'2026-11-28 03:15:27.070532','2026-11-28 03:13:57.471221',NULL,NULL,'ARCHIVE at 127.0.0.1:50831 cannot be reached, or aborted the association',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(3,4,'2.25.257079904698118139249626482632188478075','pacs','sent',1,'2026-11-28 03:13:57.471221','2026-11-28 03:13:57.471221','2026-11-28 03:13:59.071338',0,'0x0000 stored',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(4,4,'2.25.257079904698118139249626482632188478075','archive','waiting',3,'2026-11-28 03:15:27.089168','2026-11-28 03:13:57.471221',NULL,NULL,'ARCHIVE at 127.0.0.1:50831 cannot be reached, or aborted the association',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(5,6,'2.25.257079904698118139249626482632188478075','pacs','sent',1,'2026-11-28 03:13:57.471221','2026-11-28 03:13:57.471221','2026-11-28 03:13:59.198337',0,'0x0000 stored',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(6,6,'2.25.257079904698118139249626482632188478075','archive','waiting',3,'2026-11-28 03:15:27.096479','2026-11-28 03:13:57.471221',NULL,NULL,'ARCHIVE at 127.0.0.1:50831 cannot be reached, or aborted the association',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(7,7,'2.25.257079904698118139249626482632188478075','pacs','sent',1,'2026-11-28 03:13:57.471221','2026-11-28 03:13:57.471221','2026-11-28 03:13:59.287552',0,'0x0000 stored',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(8,7,'2.25.257079904698118139249626482632188478075','archive','waiting',3,'2026-11-28 03:15:27.101960','2026-11-28 03:13:57.471221',NULL,NULL,'ARCHIVE at 127.0.0.1:50831 cannot be reached, or aborted the association',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(9,8,'2.25.257079904698118139249626482632188478075','pacs','sent',1,'2026-11-28 03:13:57.471221','2026-11-28 03:13:57.471221','2026-11-28 03:13:59.371377',0,'0x0000 stored',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(10,8,'2.25.257079904698118139249626482632188478075','archive','waiting',3,'2026-11-28 03:15:27.108390','2026-11-28 03:13:57.471221',NULL,NULL,'ARCHIVE at 127.0.0.1:50831 cannot be reached, or aborted the association',0,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(11,10,'1.2.826.0.1.3680043.10.1','pacs','sent',1,'2026-11-28 03:13:59.345617','2026-11-28 03:13:59.345617','2026-11-28 03:14:01.518716',0,'0x0000 stored',1,'none',NULL,0,0,NULL);
INSERT INTO "outbox" VALUES(12,10,'1.2.826.0.1.3680043.10.1','archive','waiting',3,'2026-11-28 03:15:27.284493','2026-11-28 03:13:59.345617',NULL,NULL,'ARCHIVE at 127.0.0.1:50831 cannot be reached, or aborted the association',0,'none',NULL,0,0,NULL);
CREATE TABLE processes (
	id INTEGER NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	host VARCHAR(100) NOT NULL, 
	pid INTEGER NOT NULL, 
	started_at DATETIME NOT NULL, 
	beat_at DATETIME NOT NULL, gpu_device VARCHAR(16), gpu_free_bytes BIGINT, gpu_total_bytes BIGINT, 
	CONSTRAINT pk_processes PRIMARY KEY (id)
);
CREATE TABLE promises (
	id INTEGER NOT NULL, 
	transaction_uid VARCHAR(64) NOT NULL, 
	calling_ae VARCHAR(16) NOT NULL, 
	instances TEXT NOT NULL, 
	refusal INTEGER, 
	received_at DATETIME NOT NULL, 
	answered_at DATETIME, 
	attempts INTEGER NOT NULL, 
	next_attempt_at DATETIME, 
	last_message TEXT NOT NULL, 
	CONSTRAINT pk_promises PRIMARY KEY (id)
);
CREATE TABLE receivers (
	name VARCHAR(64) NOT NULL, 
	since DATETIME NOT NULL, 
	last_sent_at DATETIME, 
	attempts INTEGER NOT NULL, 
	next_attempt_at DATETIME, 
	last_message TEXT NOT NULL, 
	CONSTRAINT pk_receivers PRIMARY KEY (name)
);
INSERT INTO "receivers" VALUES('pager','2026-11-28 03:13:36.172059',NULL,1,'2026-11-28 03:15:09.087787','127.0.0.1: Connection refused');
INSERT INTO "receivers" VALUES('pacs-team','2026-11-28 03:13:36.162876',NULL,0,NULL,'');
CREATE TABLE "result_files" (
	id INTEGER NOT NULL, 
	result_id INTEGER NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	path VARCHAR(300) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	sop_class_uid VARCHAR(64), 
	sop_instance_uid VARCHAR(64), 
	CONSTRAINT pk_result_files PRIMARY KEY (id), 
	CONSTRAINT uq_result_files_result_id UNIQUE (result_id, role), 
	CONSTRAINT fk_result_files_result_id FOREIGN KEY(result_id) REFERENCES results (id), 
	CONSTRAINT ck_result_files_role CHECK (role IN ('report', 'report_2d', 'overlay', 'table', 'sheet', 'picture', 'presentation', 'key_object', 'findings'))
);
INSERT INTO "result_files" VALUES(1,1,'findings','results/2.25.257079904698118139249626482632188478075/6e984a6be47249c2efcbe00c9616c9d1/findings.json','69cbdcc0f27d13f811c521d2f01fd60a7fd9a78423615149c1ee0e1995b14c7a',NULL,NULL);
INSERT INTO "result_files" VALUES(2,1,'report','results/2.25.257079904698118139249626482632188478075/6e984a6be47249c2efcbe00c9616c9d1/sr.dcm','72c14690de260fcf20d1d3ca98a1f57d0adccf238f27994643cfe67d9809414d','1.2.840.10008.5.1.4.1.1.88.34','2.25.280543594657333401941291390175300358473');
INSERT INTO "result_files" VALUES(3,1,'report_2d','results/2.25.257079904698118139249626482632188478075/6e984a6be47249c2efcbe00c9616c9d1/sr-2d.dcm','e0e833eaa6edc221875c7ee69986f56cdfbabb5a6f3ec69bd26e6803adf68292','1.2.840.10008.5.1.4.1.1.88.33','2.25.232721679796663086522461794935020057127');
INSERT INTO "result_files" VALUES(4,1,'overlay','results/2.25.257079904698118139249626482632188478075/6e984a6be47249c2efcbe00c9616c9d1/overlay.dcm','72f5e8e678b21ed7564f2fb8a3f7299e0967aceb4e8388ca1f6f2e84e22a635a','1.2.840.10008.5.1.4.1.1.7','2.25.148725082796620524209420143792530658280');
INSERT INTO "result_files" VALUES(5,1,'picture','results/2.25.257079904698118139249626482632188478075/6e984a6be47249c2efcbe00c9616c9d1/overlay.png','dc6e2e108a38426d8e8e1cc033862eaaa6fa6b8a0e1a520689fd67027b6c029b',NULL,NULL);
INSERT INTO "result_files" VALUES(6,1,'table','results/2.25.257079904698118139249626482632188478075/6e984a6be47249c2efcbe00c9616c9d1/overlay-table.dcm','82a1cb1405bc80e755a31f052fd7fecf78d9cef5fb9ae67dfb0df932658cd260','1.2.840.10008.5.1.4.1.1.7','2.25.147187635871551947089288419100507320239');
INSERT INTO "result_files" VALUES(7,1,'presentation','results/2.25.257079904698118139249626482632188478075/6e984a6be47249c2efcbe00c9616c9d1/gsps.dcm','554b161476ac9f073c3ccdacf40ebcb3b29e89b1a312b96680e68ef3c7eb6e13','1.2.840.10008.5.1.4.1.1.11.1','2.25.135258075265625198688808897729250573615');
INSERT INTO "result_files" VALUES(8,1,'key_object','results/2.25.257079904698118139249626482632188478075/6e984a6be47249c2efcbe00c9616c9d1/ko.dcm','f42c3a480bed8873988564492c3296dc2f30914f96f3b43e36eec33ca889d2f1','1.2.840.10008.5.1.4.1.1.88.59','2.25.291927156788832667459808879627187241009');
INSERT INTO "result_files" VALUES(9,2,'findings','results/1.2.826.0.1.3680043.10.1/39c906f4554948dbac7afefde9c9de02/findings.json','7a5f6224d12a3d42140550262fee2cacbf643dd256a0d31566eff73e5b2c0be9',NULL,NULL);
INSERT INTO "result_files" VALUES(10,2,'report','results/1.2.826.0.1.3680043.10.1/39c906f4554948dbac7afefde9c9de02/sr.dcm','eb5ec5f8e5f5d6530e92fc0613ef68850ab41e24f46902935dfde3c3e0cca8a6','1.2.840.10008.5.1.4.1.1.88.34','2.25.114682938556464281403605883036137210222');
INSERT INTO "result_files" VALUES(11,2,'report_2d','results/1.2.826.0.1.3680043.10.1/39c906f4554948dbac7afefde9c9de02/sr-2d.dcm','06652d0d871f3c00d700337acc901d73d9e9f4ce82969cd99023d8c2ba614d47','1.2.840.10008.5.1.4.1.1.88.33','2.25.338233382324369479260257459870370319718');
CREATE TABLE results (
	id INTEGER NOT NULL, 
	study_uid VARCHAR(64) NOT NULL, 
	generation INTEGER NOT NULL, 
	input_hash VARCHAR(64) NOT NULL, 
	model_digest VARCHAR(64) NOT NULL, 
	settings_digest VARCHAR(64) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason VARCHAR(64), 
	findings TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_results PRIMARY KEY (id), 
	CONSTRAINT ck_results_status CHECK (status IN ('analysed', 'not_analysable')), 
	CONSTRAINT fk_results_study_uid FOREIGN KEY(study_uid) REFERENCES studies (study_uid), 
	CONSTRAINT uq_results_study_uid UNIQUE (study_uid, input_hash, model_digest, settings_digest)
);
INSERT INTO "results" VALUES(1,'2.25.257079904698118139249626482632188478075',1,'15c7330e58eddc182bb87419005c982f127d847ce9d50ba68d92400ece29dec7','aa4c2d224efbb4f7e5bb38bdd998f324be26ce86364918092f087d43937cfadd','018b25d88794b16fc01e1874e1da1b324cde60c8ebd5e04bf00abb557489afbd','analysed',NULL,'{"study_uid": "2.25.257079904698118139249626482632188478075", "series_uid": "2.25.95212619017928748003674340093351251349", "sop_instance_uid": "2.25.149524825181808011698104608166487239517", "frame_number": null, "model": {"name": "spineone-r18", "version": "0.3.0", "digest": "aa4c2d224efbb4f7e5bb38bdd998f324be26ce86364918092f087d43937cfadd"}, "status": "analysed", "reason": null, "reason_detail": "", "findings": [{"structure": "vertebra", "level": "L1", "class": "degenerative", "decided": false, "probability": 0.861816, "x": 172.401, "y": 125.685, "xyz_mm": [3.76, 22.598, 64.978], "localisation_confidence": 1.0}, {"structure": "disc", "level": "L1-L2", "class": "degenerative", "decided": false, "probability": 0.690665, "x": 169.057, "y": 153.952, "xyz_mm": [4.187, 20.511, 46.039], "localisation_confidence": 1.0}, {"structure": "vertebra", "level": "L2", "class": "degenerative", "decided": true, "probability": 0.939837, "x": 168.444, "y": 181.75, "xyz_mm": [4.647, 20.248, 27.428], "localisation_confidence": 1.0}, {"structure": "disc", "level": "L2-L3", "class": "degenerative", "decided": true, "probability": 0.940876, "x": 164.794, "y": 208.816, "xyz_mm": [5.049, 17.949, 9.29], "localisation_confidence": 1.0}, {"structure": "vertebra", "level": "L3", "class": "degenerative", "decided": true, "probability": 0.948141, "x": 166.681, "y": 238.265, "xyz_mm": [5.574, 19.369, -10.412], "localisation_confidence": 1.0}, {"structure": "disc", "level": "L3-L4", "class": "normal", "decided": true, "probability": 0.41696, "x": 165.15, "y": 269.033, "xyz_mm": [6.07, 18.508, -31.016], "localisation_confidence": 1.0}, {"structure": "vertebra", "level": "L4", "class": "degenerative", "decided": true, "probability": 0.976293, "x": 171.021, "y": 299.168, "xyz_mm": [6.666, 22.599, -51.153], "localisation_confidence": 1.0}, {"structure": "disc", "level": "L4-L5", "class": "degenerative", "decided": true, "probability": 0.992133, "x": 173.308, "y": 326.927, "xyz_mm": [7.168, 24.278, -69.721], "localisation_confidence": 1.0}, {"structure": "vertebra", "level": "L5", "class": "degenerative", "decided": true, "probability": 0.933866, "x": 185.487, "y": 350.841, "xyz_mm": [7.752, 32.558, -85.659], "localisation_confidence": 1.0}, {"structure": "disc", "level": "L5-S1", "class": "degenerative", "decided": true, "probability": 0.95517, "x": 195.135, "y": 377.553, "xyz_mm": [8.346, 39.159, -103.484], "localisation_confidence": 1.0}], "ood_score": 0.000622, "warnings": []}','2026-11-28 03:13:46.144144');
INSERT INTO "results" VALUES(2,'1.2.826.0.1.3680043.10.1',1,'2cdd254021cd98d5c51a7d7070489d9ddbdf850ec713a9c323b86cfb34db7074','aa4c2d224efbb4f7e5bb38bdd998f324be26ce86364918092f087d43937cfadd','018b25d88794b16fc01e1874e1da1b324cde60c8ebd5e04bf00abb557489afbd','not_analysable','unreadable_pixels','{"study_uid": "1.2.826.0.1.3680043.10.1", "series_uid": "1.2.826.0.1.3680043.10.1.1", "sop_instance_uid": "", "frame_number": null, "model": {"name": "spineone-r18", "version": "0.3.0", "digest": "aa4c2d224efbb4f7e5bb38bdd998f324be26ce86364918092f087d43937cfadd"}, "status": "not_analysable", "reason": "unreadable_pixels", "reason_detail": "the middle slices are blank or hold values that are not finite", "findings": [], "ood_score": null, "warnings": []}','2026-11-28 03:13:46.144144');
CREATE TABLE studies (
	study_uid VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	generation INTEGER NOT NULL, 
	first_received_at DATETIME NOT NULL, 
	last_received_at DATETIME NOT NULL, released_at DATETIME, asked_at DATETIME, fetched_at DATETIME, images_expected INTEGER, images_here INTEGER, stored_images INTEGER DEFAULT '0' NOT NULL, stored_bytes BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_studies PRIMARY KEY (study_uid), 
	CONSTRAINT ck_studies_state CHECK (state IN ('receiving', 'complete'))
);
INSERT INTO "studies" VALUES('2.25.257079904698118139249626482632188478075','complete',1,'2026-11-28 03:13:42.720897','2026-11-28 03:13:43.423791',NULL,NULL,NULL,NULL,NULL,5,2014750);
INSERT INTO "studies" VALUES('1.2.826.0.1.3680043.10.1','complete',1,'2026-11-28 03:13:43.543932','2026-11-28 03:13:43.903406',NULL,NULL,NULL,NULL,NULL,5,4260);
INSERT INTO "studies" VALUES('1.2.826.0.1.3680043.10.2','complete',1,'2026-11-28 03:14:47.065893','2026-11-28 03:14:47.456146',NULL,NULL,NULL,NULL,NULL,3,2556);
INSERT INTO "studies" VALUES('1.2.826.0.1.3680043.10.3','receiving',1,'2026-11-28 03:14:59.518078','2026-11-28 03:14:59.518078',NULL,NULL,NULL,NULL,NULL,1,852);
CREATE UNIQUE INDEX uq_alerts_open ON alerts (kind, subject) WHERE closed_at IS NULL;
CREATE UNIQUE INDEX ix_instances_path ON instances (path);
CREATE INDEX ix_instances_study_uid ON instances (study_uid);
CREATE UNIQUE INDEX uq_instances_current ON instances (sop_instance_uid) WHERE is_current;
CREATE INDEX ix_studies_state ON studies (state);
CREATE INDEX ix_jobs_claim ON jobs (state, not_before);
CREATE INDEX ix_jobs_study_uid ON jobs (study_uid);
CREATE UNIQUE INDEX uq_jobs_active_study ON jobs (study_uid) WHERE state IN ('waiting', 'running');
CREATE INDEX ix_job_events_job_id ON job_events (job_id);
CREATE INDEX ix_outbox_due ON outbox (state, destination, next_attempt_at);
CREATE INDEX ix_outbox_proof ON outbox (proof, destination, proof_at);
CREATE INDEX ix_promises_due ON promises (next_attempt_at);
CREATE INDEX ix_alerts_closed_at ON alerts (closed_at);
CREATE INDEX ix_notices_open ON notices (receiver, is_over);
COMMIT;
