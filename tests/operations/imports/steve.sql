-- MySQL dump 10.13  Distrib 8.0.39, for Linux (x86_64)
--
-- Host: localhost    Database: stevedb
-- ------------------------------------------------------
/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!50503 SET NAMES utf8mb4 */;
SET TIME_ZONE='+00:00';

DROP TABLE IF EXISTS `address`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
CREATE TABLE `address` (
  `address_pk` int NOT NULL AUTO_INCREMENT,
  `street` varchar(1000) DEFAULT NULL,
  `house_number` varchar(255) DEFAULT NULL,
  `zip_code` varchar(255) DEFAULT NULL,
  `city` varchar(255) DEFAULT NULL,
  `country` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`address_pk`)
) ENGINE=InnoDB AUTO_INCREMENT=3 DEFAULT CHARSET=utf8mb3;
LOCK TABLES `address` WRITE;
/*!40000 ALTER TABLE `address` DISABLE KEYS */;
INSERT INTO `address` VALUES (1,'Van \'t Hoffstraat','12a','3511 ED','Utrecht','NL'),(2,'Rue de l''Été; DROP TABLE charge_box',NULL,'1000','Bruxelles','BE');
/*!40000 ALTER TABLE `address` ENABLE KEYS */;
UNLOCK TABLES;

CREATE TABLE `charge_box` (
  `charge_box_pk` int NOT NULL AUTO_INCREMENT,
  `charge_box_id` varchar(255) NOT NULL,
  `ocpp_protocol` varchar(255) DEFAULT NULL,
  `registration_status` varchar(255) NOT NULL DEFAULT 'Accepted',
  `charge_point_vendor` varchar(255) DEFAULT NULL,
  `description` mediumtext,
  `note` mediumtext COMMENT 'with ( and , and ` in it',
  `location_latitude` decimal(11,8) DEFAULT NULL,
  `location_longitude` decimal(11,8) DEFAULT NULL,
  `address_pk` int DEFAULT NULL,
  `security_profile` int DEFAULT '0',
  `auth_password` varchar(500) DEFAULT NULL,
  PRIMARY KEY (`charge_box_pk`),
  UNIQUE KEY `chargeBoxId_UNIQUE` (`charge_box_id`)
) ENGINE=InnoDB;
INSERT INTO `charge_box` VALUES
(1,'BOX-1','ocpp1.6J','Accepted','Acme','line one\nline two',_binary 'a -- no comment',52.09083000,5.12222000,1,1,'$2a$10$abcdefghijklmnopqrstuu'),
(2,'BOX-2','ocpp1.6J','Accepted','Acme',NULL,'',NULL,NULL,2,0,NULL),
(3,'BOX-3','ocpp1.5S','Accepted',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL),
(4,'BOX 4','ocpp1.6J','Accepted',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL),
(5,'BOX-5','ocpp1.6J','Accepted',NULL,'INSERT INTO `charge_box` VALUES (9);',NULL,NULL,NULL,NULL,0,NULL),
(6,'BOX-6','ocpp1.6J','Rejected',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL);

CREATE TABLE `connector` (
  `connector_pk` int unsigned NOT NULL AUTO_INCREMENT,
  `charge_box_id` varchar(255) NOT NULL,
  `connector_id` int NOT NULL,
  PRIMARY KEY (`connector_pk`)
) ENGINE=InnoDB;
INSERT INTO `connector` VALUES (1,'BOX-1',0),(2,'BOX-1',1),(3,'BOX-1',2),(4,'BOX-2',1),(5,'BOX-3',1),(6,'BOX-6',1);

CREATE TABLE `connector_meter_value` (
  `connector_pk` int unsigned NOT NULL,
  `value` text
) ENGINE=InnoDB;
INSERT INTO `connector_meter_value` VALUES (1,'OCMF|{\"FV\":\"1.0\"}|{\"SD\":\"it\\\'s\"}'),(2,0x4F434D46);

CREATE TABLE `ocpp_tag` (
  `ocpp_tag_pk` int NOT NULL AUTO_INCREMENT,
  `id_tag` varchar(255) NOT NULL,
  `parent_id_tag` varchar(255) DEFAULT NULL,
  `expiry_date` timestamp(6) NULL DEFAULT NULL,
  `max_active_transaction_count` int NOT NULL DEFAULT '1',
  `note` mediumtext,
  PRIMARY KEY (`ocpp_tag_pk`)
) ENGINE=InnoDB;
INSERT INTO `ocpp_tag` (`ocpp_tag_pk`, `id_tag`, `parent_id_tag`, `expiry_date`, `max_active_transaction_count`, `note`) VALUES
(1,'STAFF01',NULL,NULL,1,'reception'),
(2,'STAFF02','STAFF01','2022-03-27 10:00:00.000000',-1,NULL),
(3,'BLOCKED1',NULL,NULL,0,NULL),
(4,'staff01',NULL,NULL,1,NULL),
(5,'THIS-CARD-HAS-MORE-THAN-THIRTY-SIX-CHARACTERS',NULL,NULL,1,NULL);
